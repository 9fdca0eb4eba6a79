//! Who is who: names, tenants, sessions that resume, certificates that change.

use super::*;
use crate::tls::config::tests::{CLIENT, Leaf, SERVER};
use crate::tls::{ClientAuth, Reload, Reloader, ServerSettings, TenantRefused};

const OWN: [Records; 2] = [Records::Own, Records::Own];

#[test]
fn the_name_that_is_asked_for_chooses_the_certificate() {
    let files = Files::new();
    let wild = files.pair("wild", Leaf { names: &["*.b.example"], ..SERVER });
    let settings = ServerSettings { certificates: vec![files.named("server"), wild], ..files.server() };
    let (client, server) = (client_tls(&files.client()), server_tls(&settings));
    for (name, good) in
        [("a.example", true), ("x.b.example", true), ("X.B.example", true), ("c.example", false)]
    {
        for records in BOTH {
            let session = Session::client(&client, name, records, NOW_S);
            let mut wire = Wire::new(session, Session::server(&server, records));
            wire.settle();
            assert_eq!(wire.client.session.can_send(), good, "{name}");
            if !good {
                assert_eq!(wire.client.failure().reason, Reason::WrongName);
            }
        }
    }
}

#[test]
fn a_certificate_names_its_tenant() {
    let files = Files::new();
    let settings = ServerSettings {
        tenant_rule: Some("dns:{tenant}.clients.example".parse().expect("a rule")),
        ..files.mutual()
    };
    files.pair("nobody", Leaf { names: &["nobody.example"], ..CLIENT });
    let server = server_tls(&settings);
    for records in BOTH {
        let tenant = |name: &str| {
            let wire = connect(&files.client_as(name), &server, [Records::Own, records]);
            wire.server.session.peer().expect("let in").tenant.clone()
        };
        assert_eq!(tenant("client"), Some(Ok("acme".into())));
        assert_eq!(tenant("nobody"), Some(Err(TenantRefused::NoName)));
    }
    // One that shows no certificate has no tenant by it.
    let optional = ServerSettings { client_auth: ClientAuth::Optional(files.path("ca.pem")), ..settings };
    let wire = connect(&client_tls(&files.client()), &server_tls(&optional), OWN);
    let peer = wire.server.session.peer().expect("let in");
    assert_eq!((&peer.tenant, &peer.names), (&None, &None));
}

/// When a certificate that is good until 2027 has expired.
pub const EXPIRY_S: u64 = 1_830_211_200;

fn resumes(client: &ClientTls, server: &ServerTls) -> bool {
    let wire = connect(client, server, OWN);
    let peer = wire.server.session.peer().expect("let in");
    assert_eq!(Some(peer.resumed), wire.client.session.peer().map(|peer| peer.resumed));
    peer.resumed
}

#[test]
fn sessions_resume_on_any_shard_and_after_a_new_certificate() {
    let files = Files::new();
    let mut reloader = Reloader::new(files.server()).expect("good files");
    let client = client_tls(&files.client());
    let shard = reloader.current().clone();
    assert!(!resumes(&client, &shard));
    assert!(resumes(&client, &shard.clone()), "the ticket went through our record layer");
    files.pair("server", SERVER);
    let Ok(Reload::Changed(next)) = reloader.reload() else { panic!("a new certificate") };
    assert!(resumes(&client, &next));
    assert!(!resumes(&client, &server_tls(&files.server())), "another server's tickets are its own");
}

#[test]
fn who_may_come_is_asked_again_when_a_session_resumes() {
    let files = Files::new();
    files.pair("client", Leaf { until: 2027, ..CLIENT });
    let mut reloader = Reloader::new(files.mutual()).expect("good files");
    let client = files.client_as("client");
    let shard = reloader.current().clone();
    for resumed in [false, true] {
        let wire = connect_at(&client, &shard, OWN, EXPIRY_S - 3600);
        assert_eq!(wire.server.session.peer().map(|peer| peer.resumed), Some(resumed));
    }

    // Two hours later the certificate has expired, and the ticket is still good.
    let wire = connect_at(&client, &shard, OWN, EXPIRY_S + 3600);
    assert!(wire.client.session.peer().is_some_and(|peer| peer.resumed));
    assert_eq!(wire.server.failure().reason, Reason::CertificateExpired);
    assert_eq!(wire.client.failure().received, Reason::CertificateExpired.alert());

    // Revoked since: a reload with a list gives out tickets of another kind, so nobody resumes past it.
    files.write("list.pem", &files.authority.revoke(&[CLIENT.serial]));
    let settings = ServerSettings { revocation_lists: vec![files.path("list.pem")], ..files.mutual() };
    let next = reloader.replace(settings).expect("good files");
    let wire = connect(&client, &next, OWN);
    assert_eq!(wire.server.failure().reason, Reason::CertificateRevoked);
}

#[test]
fn certificates_change_under_a_connection_without_hurting_it() {
    let files = Files::new();
    let mut reloader = Reloader::new(files.server()).expect("good files");
    let client = client_tls(&files.client());
    let mut old = connect(&client, reloader.current(), OWN);
    files.pair("server", Leaf { names: &["a.example", "new.example"], ..SERVER });
    let Ok(Reload::Changed(next)) = reloader.reload() else { panic!("a new certificate") };
    let new = connect(&client_tls(&files.client()), &next, OWN);
    let names = new.client.session.peer().and_then(|peer| peer.names.clone()).expect("a certificate");
    assert_eq!(names.dns, ["a.example", "new.example"]);
    let sent = old.client.say(b"still here");
    old.server.hear(&sent);
    assert_eq!(old.server.heard, b"still here");
}
