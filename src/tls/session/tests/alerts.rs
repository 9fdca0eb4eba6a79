//! What goes wrong: the reason, and the alert the other side reads.

use super::*;
use crate::tls::Alert;
use crate::tls::config::tests::{Authority, CLIENT, Leaf, Purpose, SERVER};

over_each_implementation! {
    what_is_wrong_after_the_handshake_is_told_to_the_reference,
}

/// What the server made of a client, and what the client read.
#[track_caller]
fn server_refuses(wire: &Wire, reason: Reason) {
    let failure = wire.server.failure();
    assert_eq!(failure.reason, reason, "{failure}");
    assert_eq!(failure.sent, reason.alert(), "{failure}");
    let told = wire.client.failure();
    assert_eq!((told.reason, told.received), (Reason::PeerAlert, reason.alert()), "{told}");
    assert!(!wire.server.session.can_send() && !wire.server.session.has_output());
}

#[track_caller]
fn client_refuses(wire: &Wire, reason: Reason) {
    assert_eq!(wire.client.failure().reason, reason, "{}", wire.client.failure());
    let told = wire.server.failure();
    assert_eq!((told.reason, told.received), (Reason::PeerAlert, reason.alert()), "{told}");
}

#[test]
fn clients_without_a_good_certificate() {
    let files = Files::new();
    files.pair("expired", Leaf { until: 2025, ..CLIENT });
    files.pair("revoked", Leaf { serial: 66, ..CLIENT });
    files.pair("server-as-client", Leaf { purpose: Purpose::Server, ..CLIENT });
    files.pair_by(&Authority::new("a stranger"), "stranger", CLIENT);
    files.write("list.pem", &files.authority.revoke(&[66]));
    let settings =
        crate::tls::ServerSettings { revocation_lists: vec![files.path("list.pem")], ..files.mutual() };
    let server = server_tls(&settings);
    let cases = [
        ("expired", Reason::CertificateExpired),
        ("revoked", Reason::CertificateRevoked),
        ("server-as-client", Reason::WrongPurpose),
        ("stranger", Reason::UnknownIssuer),
    ];
    for records in BOTH {
        for (name, reason) in cases {
            server_refuses(&connect(&files.client_as(name), &server, [Records::Own, records]), reason);
        }
        let none = client_tls(&files.client());
        server_refuses(&connect(&none, &server, [Records::Own, records]), Reason::NoCertificate);
        let wire = connect(&files.client_as("client"), &server, [Records::Own, records]);
        assert!(wire.server.session.can_send(), "{:?}", wire.server.then);
    }
}

#[test]
fn servers_that_are_not_who_was_called() {
    let files = Files::new();
    let client = client_tls(&files.client());
    for records in BOTH {
        let refused = |wire: &Wire, reason| client_refuses(wire, reason);
        files.pair("server", Leaf { until: 2025, ..SERVER });
        let wire = connect(&client, &server_tls(&files.server()), [records, Records::Own]);
        refused(&wire, Reason::CertificateExpired);
        files.pair("server", Leaf { names: &["b.example"], ..SERVER });
        let wire = connect(&client, &server_tls(&files.server()), [records, Records::Own]);
        refused(&wire, Reason::WrongName);
        files.pair_by(&Authority::new("a stranger"), "server", SERVER);
        let wire = connect(&client, &server_tls(&files.server()), [records, Records::Own]);
        refused(&wire, Reason::UnknownIssuer);
    }
}

#[test]
fn a_name_that_is_none_is_refused_at_once() {
    let files = Files::new();
    for records in BOTH {
        let mut end = End::new(Session::client(&client_tls(&files.client()), "no name", records, NOW_S));
        end.hear(b"");
        assert_eq!((end.failure().reason, end.failure().sent), (Reason::WrongName, None));
        assert!(!end.session.has_output());
    }
}

/// Its number and its body.
type Extension<'a> = (u16, &'a [u8]);

fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

/// A ClientHello by hand: suites, named groups with an x25519 share, and more extensions.
fn client_hello(suite: u16, group: u16, share: u16, more: &[Extension]) -> Vec<u8> {
    let share = [&share.to_be_bytes()[..], &with_length(&[9; 32])].concat();
    let own = [
        (10, with_length(&group.to_be_bytes())),
        (13, with_length(&[4, 3, 8, 4])),
        (51, with_length(&share)),
    ];
    let own = own.iter().map(|(number, body)| (*number, &body[..]));
    hello_with(suite, &own.chain(more.iter().copied()).collect::<Vec<_>>())
}

/// A ClientHello with these extensions and no others.
fn hello_with(suite: u16, own: &[Extension]) -> Vec<u8> {
    let mut extensions = Vec::new();
    for (number, body) in own {
        extensions.extend(number.to_be_bytes());
        extensions.extend(with_length(body));
    }
    let body =
        [&[3, 3][..], &[7; 32], &[0], &with_length(&suite.to_be_bytes()), &[1, 0], &with_length(&extensions)]
            .concat();
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [&[22, 3, 1][..], &with_length(&message)].concat()
}

const TLS13: Extension = (43, &[2, 3, 4]);

/// What a server says to these first bytes, which it refuses in plaintext.
#[track_caller]
fn refused_in_plaintext(first: &[u8], reason: Reason, alert: Alert) {
    let files = Files::new();
    let mut end = End::new(Session::server(&server_tls(&files.server()), Records::Own));
    end.hear(first);
    assert_eq!((end.failure().reason, end.failure().sent), (reason, Some(alert)), "{}", end.failure());
    assert_eq!(end.say(b""), [21, 3, 3, 0, 2, 2, alert.0]);
    assert_eq!(end.pending, b"");
}

#[test]
fn hellos_that_lead_nowhere() {
    let good = |suite, group, share, more: &[Extension]| client_hello(suite, group, share, more);
    refused_in_plaintext(&good(0xc02f, 29, 29, &[]), Reason::TlsVersion, Alert::PROTOCOL_VERSION);
    // TLS 1.2 and 1.1, said in the way of 1.3.
    refused_in_plaintext(
        &good(0x1301, 29, 29, &[(43, &[4, 3, 3, 3, 2])]),
        Reason::TlsVersion,
        Alert::PROTOCOL_VERSION,
    );
    refused_in_plaintext(&good(0x1304, 29, 29, &[TLS13]), Reason::NoSharedSuite, Alert::HANDSHAKE_FAILURE);
    refused_in_plaintext(&good(0x1301, 256, 256, &[TLS13]), Reason::NoSharedSuite, Alert::HANDSHAKE_FAILURE);
    let twice = good(0x1301, 29, 29, &[TLS13, TLS13]);
    refused_in_plaintext(&twice, Reason::MalformedMessage, Alert::ILLEGAL_PARAMETER);
}

#[test]
fn who_offers_older_versions_is_told_so_whatever_else_it_lacks() {
    let version = |hello: &[u8]| refused_in_plaintext(hello, Reason::TlsVersion, Alert::PROTOCOL_VERSION);
    version(&hello_with(0xc02f, &[]));
    version(&hello_with(0x1301, &[(43, &[2, 3, 3])]));
    // Offers 1.3, and names SSL 3.0 as its own version.
    let mut hello = client_hello(0x1301, 29, 29, &[TLS13]);
    hello[9..11].copy_from_slice(&[3, 0]);
    version(&hello);
}

#[test]
fn what_a_hello_lacks() {
    let groups: Extension = (10, &[0, 2, 0, 29]);
    let share = [&[0, 36, 0, 29, 0, 32][..], &[9; 32]].concat();
    let share: Extension = (51, &share);
    let signatures: Extension = (13, &[0, 2, 4, 3]);
    for without in
        [vec![TLS13, groups, signatures], vec![TLS13, groups, share], vec![TLS13, signatures, share]]
    {
        let hello = hello_with(0x1301, &without);
        refused_in_plaintext(&hello, Reason::MissingExtension, Alert::MISSING_EXTENSION);
    }
    // Signatures of RSA alone, of certificates alone, and of nothing anybody knows; our key is for ECDSA.
    for scheme in [[8, 4], [4, 1], [2, 3], [0xee, 0xee]] {
        let hello = hello_with(0x1301, &[TLS13, groups, share, (13, &with_length(&scheme))]);
        refused_in_plaintext(&hello, Reason::NoSharedSuite, Alert::HANDSHAKE_FAILURE);
        // The reference leaves rustls its word, and gives the same reason.
        let files = Files::new();
        let mut end = End::new(Session::server(&server_tls(&files.server()), Records::Rustls));
        end.hear(&hello);
        let failure = end.failure();
        assert_eq!((failure.reason, failure.sent), (Reason::NoSharedSuite, Some(Alert::ACCESS_DENIED)));
    }
}

/// What a server says that has sent its flight, and what it makes of it.
#[track_caller]
fn refused_under_keys(record: &[u8], reason: Reason, alert: Alert) {
    let files = Files::new();
    let mut end = End::new(Session::server(&server_tls(&files.server()), Records::Own));
    end.hear(&client_hello(0x1301, 29, 29, &[TLS13]));
    assert!(end.say(b"").len() > 500, "its flight");
    end.hear(record);
    assert_eq!((end.failure().reason, end.failure().sent), (reason, Some(alert)), "{}", end.failure());
    assert_eq!(end.say(b"").len(), crate::tls::record::ALERT_RECORD_BYTES);
}

#[test]
fn what_has_no_place_in_a_handshake_is_told_under_its_keys() {
    let unexpected = Alert::UNEXPECTED_MESSAGE;
    refused_under_keys(&[99, 3, 3, 0, 1, 0], Reason::UnexpectedRecord, unexpected);
    // A Finished in plaintext.
    let finished = [&[22, 3, 3, 0, 36, 20, 0, 0, 32][..], &[0; 32]].concat();
    refused_under_keys(&finished, Reason::UnexpectedRecord, unexpected);
    let change = [20, 3, 3, 0, 1, 1];
    refused_under_keys(&change.repeat(3), Reason::UnexpectedRecord, unexpected);
    refused_under_keys(&[20, 3, 3, 0, 1, 2], Reason::UnexpectedRecord, unexpected);
    // Longer than any, which rustls sees when it has opened it; and longer than it looks at.
    let long = |bytes: u16| [&[23, 3, 3][..], &bytes.to_be_bytes(), &vec![0; bytes.into()]].concat();
    refused_under_keys(&long((1 << 14) + 257), Reason::BadRecordMac, Alert::BAD_RECORD_MAC);
    refused_under_keys(&long((1 << 14) + 2049)[..5], Reason::RecordOverflow, unexpected);
}

/// A client of rustls that speaks other protocols: what it reads.
#[test]
fn other_protocols_are_refused() {
    use rustls::{AlertDescription, ClientConnection, Error};
    let files = Files::new();
    let mut config = rustls::ClientConfig::clone(&client_tls(&files.client()).rustls());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    for records in BOTH {
        let name = "a.example".try_into().expect("a name");
        let mut conn = ClientConnection::new(config.clone().into(), name).expect("a client");
        let mut hello = Vec::new();
        while conn.wants_write() {
            conn.write_tls(&mut hello).expect("into memory");
        }
        let mut end = End::new(Session::server(&server_tls(&files.server()), records));
        end.hear(&hello);
        assert_eq!(end.failure().reason, Reason::WrongAlpn);
        assert_eq!(end.failure().sent, Some(Alert::NO_APPLICATION_PROTOCOL));
        let answer = end.say(b"");
        let read = conn.read_tls(&mut &answer[..]).map(|_| conn.process_new_packets());
        let told = read.expect("from memory").expect_err("an alert");
        assert_eq!(told, Error::AlertReceived(AlertDescription::NoApplicationProtocol));
    }
}

#[test]
fn first_bytes_that_are_no_handshake() {
    let unexpected = Alert::UNEXPECTED_MESSAGE;
    let hello = client_hello(0x1301, 29, 29, &[TLS13]);
    refused_in_plaintext(b"GET / HTTP/1.1\r\n\r\n", Reason::NotTls, unexpected);
    refused_in_plaintext(
        &[b"\x55\x52\x01\x00\x10"[..].to_vec(), vec![0; 20]].concat(),
        Reason::NotTls,
        unexpected,
    );
    refused_in_plaintext(&[23, 3, 3, 0, 1, 0], Reason::NotTls, unexpected);
    // What would be its length is none.
    refused_in_plaintext(b"POST / HTTP/1.1\r\n\r\n", Reason::NotTls, unexpected);
    refused_in_plaintext(&[22, 3, 3, 0x40, 1], Reason::RecordOverflow, Alert::RECORD_OVERFLOW);
    refused_in_plaintext(&[22, 3, 3, 0, 4, 99, 0, 0, 0], Reason::UnexpectedMessage, unexpected);
    refused_in_plaintext(&[22, 3, 3, 0, 5, 11, 0, 0, 1, 9], Reason::UnexpectedMessage, unexpected);
    refused_in_plaintext(&[22, 3, 3, 0, 6, 1, 0, 0, 2, 9, 9], Reason::MalformedMessage, Alert::DECODE_ERROR);
    // Half a hello, then something else.
    let half = u8::try_from(50).expect("small");
    let cut = [&[22, 3, 1, 0, half], &hello[5..55], &[99, 3, 3, 0, 1, 0]].concat();
    refused_in_plaintext(&cut, Reason::UnexpectedRecord, unexpected);
}

#[test]
fn a_hello_may_be_cut_over_records_but_not_without_end() {
    let files = Files::new();
    let server = server_tls(&files.server());
    let mut wire = Wire::new(
        Session::client(&client_tls(&files.client()), "a.example", Records::Own, NOW_S),
        Session::server(&server, Records::Own),
    );
    let hello = wire.client.say(b"");
    for piece in hello[5..].chunks(100) {
        let length = u8::try_from(piece.len()).expect("short");
        wire.server.hear(&[&[22, 3, 1, 0, length], piece].concat());
    }
    wire.settle();
    assert!(wire.server.session.can_send());

    let mut end = End::new(Session::server(&server, Records::Own));
    end.hear(&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]);
    for _ in 0..20 {
        if matches!(end.then, Then::Failed(_)) {
            break;
        }
        end.hear(&[&[22, 3, 1, 0x40, 0][..], &[0; 16_384]].concat());
    }
    assert_eq!(end.failure().reason, Reason::MalformedMessage);
}

#[test]
fn a_client_that_asks_for_no_protocol_is_let_in_and_a_server_that_names_none_is_not() {
    let files = Files::new();
    let mut end = End::new(Session::server(&server_tls(&files.server()), Records::Own));
    end.hear(&client_hello(0x1301, 29, 29, &[TLS13]));
    assert_eq!(end.then, Then::Wants(HEADER_BYTES), "it is answered");
    assert!(end.say(b"").len() > 500);
}

/// Changes one byte of a client's last flight, at its end.
#[test]
fn a_changed_finished_is_refused() {
    let files = Files::new();
    let (client, server) = (client_tls(&files.client()), server_tls(&files.server()));
    for records in BOTH {
        let session = Session::client(&client, "a.example", Records::Own, NOW_S);
        let mut wire = Wire::new(session, Session::server(&server, records));
        let hello = wire.client.say(b"");
        wire.server.hear(&hello);
        let flight = wire.server.say(b"");
        wire.client.hear(&flight);
        let mut finished = wire.client.say(b"");
        *finished.last_mut().expect("a record") ^= 1;
        wire.server.hear(&finished);
        let alert = wire.server.say(b"");
        wire.client.hear(&alert);
        // The server's keys for data are not in use yet: the client cannot read what it is told.
        assert_eq!(wire.server.failure().reason, Reason::BadRecordMac);
        assert_eq!(wire.server.failure().sent, Some(Alert::BAD_RECORD_MAC));
        assert_eq!(alert.len(), crate::tls::record::ALERT_RECORD_BYTES);
    }
}

fn what_is_wrong_after_the_handshake_is_told_to_the_reference() {
    let mut wire = established([Records::Rustls, Records::Own]);
    let mut record = wire.client.say(b"data");
    record[10] ^= 0x80;
    wire.server.hear(&record);
    wire.settle();
    server_refuses(&wire, Reason::BadRecordMac);
    assert_eq!(wire.server.heard, b"");

    let mut wire = established([Records::Rustls, Records::Own]);
    let record = wire.client.say(b"data");
    wire.server.hear(&record);
    wire.server.hear(&record);
    wire.settle();
    server_refuses(&wire, Reason::BadRecordMac);
    assert_eq!(wire.server.heard, b"data", "once");

    let mut wire = established([Records::Rustls, Records::Own]);
    wire.server.hear(&client_hello(0x1301, 29, 29, &[TLS13]));
    wire.settle();
    server_refuses(&wire, Reason::UnexpectedRecord);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    /// A flight with any byte changed, cut short or doubled: the handshake fails or goes on, and nothing panics.
    #[test]
    fn changed_flights_cost_the_session_and_nothing_else(
        flight in 0..3_usize,
        at in proptest::prelude::any::<proptest::sample::Index>(),
        value in proptest::prelude::any::<u8>(),
        how in 0..4_u8,
        own_server in proptest::prelude::any::<bool>(),
    ) {
        let files = Files::new();
        let records = if own_server { Records::Own } else { Records::Rustls };
        let (client, server) = (files.client_as("client"), server_tls(&files.mutual()));
        let session = Session::client(&client, "a.example", Records::Own, NOW_S);
        let mut wire = Wire::new(session, Session::server(&server, records));
        for turn in 0..3 {
            let (from, to) = if turn == 1 {
                (&mut wire.server, &mut wire.client)
            } else {
                (&mut wire.client, &mut wire.server)
            };
            let mut sent = from.say(b"");
            if turn == flight && !sent.is_empty() {
                let at = at.index(sent.len());
                match how {
                    0 => sent[at] = value,
                    1 => sent[at] ^= 1 << (value % 8),
                    2 => sent.truncate(at),
                    _ => sent = [&sent[..at], &sent[at / 2..]].concat(),
                }
            }
            to.hear(&sent);
        }
        wire.settle();
        // Whatever was changed, nobody heard any data.
        proptest::prop_assert!(wire.client.heard.is_empty() && wire.server.heard.is_empty());
        let _ = (wire.client.session.end_of_stream(), wire.server.session.end_of_stream());
    }
}
