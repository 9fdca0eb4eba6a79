//! An authority of the tests' own, and what it signs; reloads, names, errors.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use tempfile::TempDir;

use super::*;

/// 2027-01-15, the time of all tests.
pub const NOW_S: u64 = 1_800_000_000;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a certificate of the tests is for.
#[derive(Clone, Copy)]
pub struct Leaf<'a> {
    pub names: &'a [&'a str],
    pub purpose: Purpose,
    pub serial: u64,
    /// The last year in which it is good.
    pub until: i32,
}

#[derive(Clone, Copy)]
pub enum Purpose {
    Server,
    Client,
}

pub const SERVER: Leaf<'static> =
    Leaf { names: &["a.example"], purpose: Purpose::Server, serial: 1, until: 2030 };
pub const CLIENT: Leaf<'static> =
    Leaf { names: &["acme.clients.example"], purpose: Purpose::Client, serial: 2, until: 2030 };

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("signed").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A chain and its key, PEM.
    pub fn leaf(&self, leaf: Leaf<'_>) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        let san = |&name: &&str| {
            let ascii = name.try_into().expect("ASCII");
            if name.contains("://") { SanType::URI(ascii) } else { SanType::DnsName(ascii) }
        };
        params.subject_alt_names = leaf.names.iter().map(san).collect();
        params.serial_number = Some(SerialNumber::from(leaf.serial));
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(leaf.until, 12, 31));
        params.extended_key_usages = vec![match leaf.purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }

    pub fn revoke(&self, serials: &[u64]) -> String {
        let revoked = |&serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2028, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("signed").pem().expect("PEM")
    }
}

/// A directory of files, and the authority behind them.
pub struct Files {
    directory: TempDir,
    pub authority: Authority,
}

impl Files {
    /// `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`.
    pub fn new() -> Files {
        let files = Files {
            directory: tempfile::tempdir().expect("a temporary directory"),
            authority: Authority::new("an authority of the tests"),
        };
        files.write("ca.pem", &files.authority.pem);
        files.pair("server", SERVER);
        files.pair("client", CLIENT);
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, contents: &str) {
        std::fs::write(self.path(name), contents).expect("written");
    }

    pub fn pair(&self, name: &str, leaf: Leaf<'_>) -> CertificateFiles {
        self.pair_by(&self.authority, name, leaf)
    }

    pub fn pair_by(&self, authority: &Authority, name: &str, leaf: Leaf<'_>) -> CertificateFiles {
        let (chain, key) = authority.leaf(leaf);
        let files = self.named(name);
        std::fs::write(&files.certificate, chain).expect("written");
        std::fs::write(&files.key, key).expect("written");
        files
    }

    pub fn named(&self, name: &str) -> CertificateFiles {
        CertificateFiles {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        }
    }

    pub fn server(&self) -> ServerSettings {
        ServerSettings {
            certificates: vec![self.named("server")],
            client_auth: ClientAuth::None,
            revocation_lists: Vec::new(),
            tenant_rule: None,
            early_data: EarlyData::Off,
        }
    }

    pub fn mutual(&self) -> ServerSettings {
        ServerSettings { client_auth: ClientAuth::Required(self.path("ca.pem")), ..self.server() }
    }

    pub fn client(&self) -> ClientSettings {
        ClientSettings { roots: Roots::File(self.path("ca.pem")), identity: None }
    }

    pub fn client_as(&self, name: &str) -> ClientTls {
        client_tls(&ClientSettings { identity: Some(self.named(name)), ..self.client() })
    }
}

pub fn server_tls(settings: &ServerSettings) -> ServerTls {
    Material::read(settings).and_then(ServerTls::new).unwrap_or_else(|error| panic!("{error}"))
}

pub fn client_tls(settings: &ClientSettings) -> ClientTls {
    ClientMaterial::read(settings).and_then(ClientTls::new).unwrap_or_else(|error| panic!("{error}"))
}

/// What is wrong with a server's files, in words and with its remedy.
fn wrong(settings: &ServerSettings) -> MaterialError {
    match Material::read(settings).and_then(ServerTls::new) {
        Ok(_) => panic!("these files are no good"),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(error.fault.remedy()), "{text}");
            error
        }
    }
}

#[test]
fn each_fault_names_its_file() {
    let files = Files::new();
    files.write("empty", "");
    files.write("broken", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    files.write("nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let with = |certificate: &str, key: &str| ServerSettings {
        certificates: vec![CertificateFiles { certificate: files.path(certificate), key: files.path(key) }],
        ..files.server()
    };
    let by = |authorities: &str, list: &str| ServerSettings {
        client_auth: ClientAuth::Required(files.path(authorities)),
        revocation_lists: vec![files.path(list)],
        ..files.server()
    };
    let none = ServerSettings { certificates: Vec::new(), ..files.server() };
    let list_alone = ServerSettings { revocation_lists: vec![files.path("empty")], ..files.server() };
    files.write("list", &files.authority.revoke(&[9]));
    type Is = fn(&MaterialFault) -> bool;
    let cases: [(ServerSettings, &str, Is); 13] = [
        (with("missing", "server.key"), "missing", |f| matches!(f, MaterialFault::Unreadable(_))),
        (with("server.pem", "missing"), "missing", |f| matches!(f, MaterialFault::Unreadable(_))),
        (with("empty", "server.key"), "empty", |f| matches!(f, MaterialFault::NoCertificate)),
        (with("broken", "server.key"), "broken", |f| matches!(f, MaterialFault::NotPem(_))),
        (with("nonsense", "server.key"), "nonsense", |f| matches!(f, MaterialFault::BadCertificate(_))),
        (with("server.pem", "empty"), "empty", |f| matches!(f, MaterialFault::NoKey)),
        (with("server.pem", "server.pem"), "server.pem", |f| matches!(f, MaterialFault::NoKey)),
        (
            with("server.pem", "client.key"),
            "client.key",
            |f| matches!(f, MaterialFault::KeyOfAnother { certificate } if certificate.ends_with("server.pem")),
        ),
        (by("empty", "list"), "empty", |f| matches!(f, MaterialFault::NoCertificate)),
        (by("nonsense", "list"), "nonsense", |f| matches!(f, MaterialFault::BadAuthority(_))),
        (by("ca.pem", "ca.pem"), "ca.pem", |f| matches!(f, MaterialFault::NoList)),
        (list_alone, "empty", |f| matches!(f, MaterialFault::NoAuthorities)),
        (none, "", |f| matches!(f, MaterialFault::NoPairs)),
    ];
    for (settings, file, is) in cases {
        let error = wrong(&settings);
        assert!(is(&error.fault), "{error}");
        assert!(file.is_empty() && error.file == Path::new("") || error.file.ends_with(file), "{error}");
    }
    server_tls(&by("ca.pem", "list"));
}

#[test]
fn a_directory_is_no_file() {
    let files = Files::new();
    let settings = ServerSettings {
        certificates: vec![CertificateFiles { certificate: files.path("."), key: files.path("server.key") }],
        ..files.server()
    };
    assert!(matches!(wrong(&settings).fault, MaterialFault::Unreadable(_)));
}

#[test]
fn a_reload_replaces_all_or_nothing() {
    let files = Files::new();
    let mut reloader = Reloader::new(files.server()).expect("good files");
    assert_eq!(reloader.current().names(), ["a.example"]);
    assert!(matches!(reloader.reload(), Ok(Reload::Unchanged)));

    // A new certificate, and still the old key: what a reload sees in the middle of a rotation.
    let (chain, key) = files.authority.leaf(Leaf { names: &["b.example"], ..SERVER });
    files.write("server.pem", &chain);
    let error = reloader.reload().expect_err("not its key");
    assert!(matches!(error.fault, MaterialFault::KeyOfAnother { .. }), "{error}");
    assert_eq!(reloader.current().names(), ["a.example"], "the old one stays");

    files.write("server.key", &key);
    match reloader.reload() {
        Ok(Reload::Changed(next)) => assert_eq!(next.names(), ["b.example"]),
        other => panic!("{other:?}"),
    }
    assert_eq!(reloader.current().names(), ["b.example"]);
    assert!(matches!(reloader.reload(), Ok(Reload::Unchanged)));

    std::fs::remove_file(files.path("server.key")).expect("written before");
    assert!(reloader.reload().is_err());
    assert_eq!(reloader.current().names(), ["b.example"]);
}

#[test]
fn a_certificate_says_its_names_and_its_end() {
    let files = Files::new();
    let other = files.pair("other", Leaf { names: &["C.example", "*.d.example"], until: 2060, ..SERVER });
    let tls =
        server_tls(&ServerSettings { certificates: vec![files.named("server"), other], ..files.server() });
    let [first, second] = tls.certificates() else { panic!("two certificates") };
    assert_eq!(
        (&first.file, first.names.as_slice()),
        (&files.path("server.pem"), ["a.example".into()].as_slice())
    );
    // The midnights with which 2030-12-31 and 2060-12-31 begin.
    assert_eq!((first.not_after_s, second.not_after_s), (Some(1_924_905_600), Some(2_871_676_800)));
    assert_eq!(second.names, ["c.example", "*.d.example"]);
}

#[test]
fn other_settings_are_taken_whole_too() {
    let files = Files::new();
    let mut reloader = Reloader::new(files.server()).expect("good files");
    let other = files.pair("other", Leaf { names: &["c.example", "*.d.example"], ..SERVER });
    let two = ServerSettings { certificates: vec![other, files.named("server")], ..files.server() };
    let bad = ServerSettings { certificates: vec![files.named("missing")], ..files.server() };
    assert!(reloader.replace(bad).is_err());
    assert!(matches!(reloader.reload(), Ok(Reload::Unchanged)), "the settings stayed as well");
    let names = ["c.example", "*.d.example", "a.example"];
    assert_eq!(reloader.replace(two).expect("good files").names(), names);
}

#[test]
fn a_clients_files_are_checked_as_well() {
    let files = Files::new();
    files.write("empty", "");
    let read = |roots: &str, identity: Option<CertificateFiles>| {
        let settings = ClientSettings { roots: Roots::File(files.path(roots)), identity };
        ClientMaterial::read(&settings).and_then(ClientTls::new).map(|_| ())
    };
    assert!(read("ca.pem", Some(files.named("client"))).is_ok());
    let fault = |result: Result<(), MaterialError>| result.expect_err("no good").fault;
    assert!(matches!(fault(read("empty", None)), MaterialFault::NoCertificate));
    assert!(matches!(fault(read("missing", None)), MaterialFault::Unreadable(_)));
    let crossed = CertificateFiles { certificate: files.path("client.pem"), key: files.path("server.key") };
    assert!(matches!(fault(read("ca.pem", Some(crossed))), MaterialFault::KeyOfAnother { .. }));
}
