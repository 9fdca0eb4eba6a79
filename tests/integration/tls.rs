//! The data port with TLS: certificates that change under load, certificates that name tenants, plain text beside it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use tempfile::TempDir;
use uringest::client::blocking::{Consumer, Producer};
use uringest::client::{
    ConnectionConfig, ConsumerConfig, ConsumerEvent, Error, ProducerConfig, Start, Tls, TlsFault, TlsSettings,
};
use uringest::tls::Roots;

use crate::rig::{Case, Program, assert_each_once, ended, lines, metric, scenarios};
use crate::support::{PATIENCE, Server, free_address, run, wait_for};

scenarios! {
    certificates_rotate_under_load on best epoll;
    a_certificate_names_the_tenant on best epoll;
    plain_text_stays_beside_it_on_a_port_of_its_own on best epoll;
    what_cannot_be_used_is_refused_before_anything_is_touched on best;
}

/// Records of a producer that comes, publishes and goes.
const VISIT: u64 = 20;
/// Visits that have to end between one change and the next.
const VISITS_BETWEEN: u64 = 10;

/// Certificates, each by an authority of its own; `now` is a link to those in force.
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    pub fn new(names: &[&str]) -> Certificates {
        let certificates = Certificates { directory: tempfile::tempdir().expect("a directory") };
        for name in names {
            certificates.make(name, &[]);
        }
        certificates.swap(names[0]);
        certificates
    }

    fn make(&self, name: &str, args: &[&str]) {
        let directory = self.text(name);
        let (code, _, stderr) = ended(&[&["cert", "dev", &directory], args].concat());
        assert_eq!(code, Some(0), "{stderr}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// In one step.
    pub fn swap(&self, name: &str) {
        std::os::unix::fs::symlink(name, self.path("next")).expect("a link");
        std::fs::rename(self.path("next"), self.path("now")).expect("renamed");
    }

    /// One file with the authorities of all of these.
    pub fn authorities(&self, names: &[&str]) -> PathBuf {
        let one = |name: &&str| std::fs::read_to_string(self.path(name).join("ca.pem")).expect("written");
        let file = self.path(&format!("{}.pem", names.join("-")));
        std::fs::write(&file, names.iter().map(one).collect::<String>()).expect("written");
        file
    }
}

pub fn trusting(roots: &Path) -> Tls {
    let roots = Roots::File(roots.to_owned());
    Tls::new(TlsSettings { roots, ..TlsSettings::default() }).expect("authorities")
}

pub fn url(server: &Server) -> String {
    format!("uringest+tls://{}", server.data)
}

/// A connection that is lost is not hidden by another attempt.
pub fn connection(url: &str, tls: &Tls) -> ConnectionConfig {
    ConnectionConfig {
        server: url.parse().expect("an address"),
        tls: Some(tls.clone()),
        retry_for: std::time::Duration::from_millis(1),
        ..ConnectionConfig::default()
    }
}

/// Connects, publishes, waits for every acknowledgement and goes.
fn visit(url: &str, tls: &Tls, records: impl Iterator<Item = String>) -> Result<(), Error> {
    let mut config = ProducerConfig::new("lines");
    config.connection = connection(url, tls);
    let producer = Producer::connect(config)?;
    for record in records {
        producer.send(record.as_bytes(), None).unwrap_or_else(|error| panic!("{record}: {error}"));
    }
    producer.close(Some(PATIENCE))
}

/// Producers that come and go, and one that stays; each record has a name of its own.
struct Load {
    stop: Arc<AtomicBool>,
    visits: Arc<AtomicU64>,
    threads: Vec<JoinHandle<u64>>,
}

impl Load {
    fn start(url: &str, roots: &Path) -> Load {
        let (stop, visits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        // One remembers its sessions from visit to visit and resumes, one does not.
        let coming = [true, false].map(|remembers| {
            let (url, roots) = (url.to_owned(), roots.to_owned());
            let (stop, visits) = (Arc::clone(&stop), Arc::clone(&visits));
            std::thread::spawn(move || {
                let (mut tls, mut sent) = (trusting(&roots), 0);
                while !stop.load(Ordering::SeqCst) {
                    if !remembers {
                        tls = trusting(&roots);
                    }
                    let records = (sent..sent + VISIT).map(|number| format!("{remembers} {number}"));
                    visit(&url, &tls, records).unwrap_or_else(|error| panic!("a publish failed: {error}"));
                    sent += VISIT;
                    visits.fetch_add(1, Ordering::SeqCst);
                }
                sent
            })
        });
        let (url, tls, stopped) = (url.to_owned(), trusting(roots), Arc::clone(&stop));
        let staying = std::thread::spawn(move || {
            let mut config = ProducerConfig::new("lines");
            config.connection = connection(&url, &tls);
            let producer = Producer::connect(config).expect("connected");
            let mut sent = 0;
            while !stopped.load(Ordering::SeqCst) {
                producer.send(format!("stays {sent}").as_bytes(), None).expect("sent");
                sent += 1;
                std::thread::park_timeout(std::time::Duration::from_millis(1));
            }
            producer.close(Some(PATIENCE)).expect("acknowledged, on the connection it began with");
            sent
        });
        Load { stop, visits, threads: coming.into_iter().chain([staying]).collect() }
    }

    fn goes_on(&self) {
        let begin = self.visits.load(Ordering::SeqCst);
        wait_for("visits", || {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a publish failed");
            (self.visits.load(Ordering::SeqCst) >= begin + VISITS_BETWEEN).then_some(())
        });
    }

    /// How many records were published and acknowledged.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|thread| thread.join().expect("no publish failed")).sum()
    }
}

pub fn events(server: &Server, name: &str) -> usize {
    server.log().matches(&format!("\"event\":\"{name}\"")).count()
}

fn certificates_rotate_under_load(case: &Case) {
    let certificates = Certificates::new(&["a", "b", "c"]);
    // The certificate of one and the key of another.
    std::fs::create_dir(certificates.path("bad")).expect("made");
    for (from, file) in [("b", "server.pem"), ("a", "server.key")] {
        let path = |name: &str| certificates.path(name).join(file);
        std::fs::copy(path(from), path("bad")).expect("copied");
    }
    let (cert, key) = (certificates.text("now/server.pem"), certificates.text("now/server.key"));
    let server = case.start(&["--shards", "2", "--tls-cert", &cert, "--tls-key", &key]);
    let (url, all) = (url(&server), certificates.authorities(&["a", "b", "c"]));
    let mut config = ConsumerConfig::new("lines");
    (config.connection, config.start) = (connection(&url, &trusting(&all)), Start::Earliest);
    let consumer = Consumer::connect(config).expect("connected");
    let load = Load::start(&url, &all);
    load.goes_on();
    let mut probes = 0;
    let mut in_force = |names: [&str; 2]| {
        let [now, before] = names.map(|name| trusting(&certificates.authorities(&[name])));
        probes += 1;
        // Control has told the shards; each acts on it in its next tick.
        wait_for("the new certificate", || visit(&url, &now, [format!("probe {probes}")].into_iter()).ok());
        let refused = wait_for("the end of the old one", || visit(&url, &before, std::iter::empty()).err());
        assert!(matches!(&refused, Error::Tls { fault: TlsFault::UnknownAuthority, .. }), "{refused}");
    };
    // Other files are seen unasked.
    certificates.swap("b");
    wait_for("the files to be seen", || (events(&server, "tls_reloaded") == 1).then_some(()));
    in_force(["b", "a"]);
    load.goes_on();
    // Those that do not belong together change nothing, and are told.
    certificates.swap("bad");
    wait_for("the fault to be told", || (events(&server, "tls_reload_failed") == 1).then_some(()));
    assert!(server.page("/readyz").contains("tls_reload_failed"));
    load.goes_on();
    in_force(["b", "a"]);
    // SIGHUP looks at once: what it says comes after what it did.
    certificates.swap("c");
    server.signal("HUP");
    wait_for("the reload", || (events(&server, "reloaded") == 1).then_some(()));
    in_force(["c", "b"]);
    load.goes_on();
    assert!(!server.page("/readyz").contains("tls_reload_failed"), "mended");
    assert_eq!(events(&server, "tls_reloaded"), 2, "once for each");
    let sent = load.stop() + probes;
    let mut got = BTreeSet::new();
    while u64::try_from(got.len()).expect("few") < sent {
        match consumer.next(Some(PATIENCE)).expect("no failure").expect("in time") {
            ConsumerEvent::Batch(batch) => {
                for record in batch.records() {
                    let record = String::from_utf8(record.payload.to_vec()).expect("text");
                    assert!(got.insert(record.clone()), "{record} came twice");
                }
            }
            ConsumerEvent::Gap { from, records, .. } => panic!("{records} records are missing from {from}"),
            _ => {}
        }
    }
    let accepted = metric(&server, "uringest_records_accepted_total");
    assert!((accepted - sent as f64).abs() < 0.5, "{accepted} and not {sent}");
}

fn a_certificate_names_the_tenant(case: &Case) {
    let certificates = Certificates::new(&["plain"]);
    certificates.make("acme", &["--client-name", "acme.clients.example"]);
    certificates.make("nobody", &["--client-name", "nobody.clients.example"]);
    let authorities = certificates.authorities(&["plain", "acme", "nobody"]);
    let file = certificates.path("uringest.toml");
    let (cert, key) = (certificates.text("now/server.pem"), certificates.text("now/server.key"));
    let text = format!(
        "[tls]\ncert = {cert:?}\nkey = {key:?}\nclient_ca = {authorities:?}\n\
         tenant_rule = \"dns:{{tenant}}.clients.example\"\n\
         [[tenant]]\nname = \"acme\"\nrules = [{{ prefix = \"acme.\", verbs = [\"publish\", \"subscribe\"] }}]\n"
    );
    std::fs::write(&file, text).expect("written");
    let server = case.start(&["--shards", "2", "--config", file.to_str().expect("UTF-8")]);
    let (url, ca) = (url(&server), certificates.text("now/ca.pem"));
    let publish = |topic: &str, who: Option<&str>| {
        let mut args = vec!["pub".into(), topic.into(), "--server".into(), url.clone()];
        args.extend(["--retry-for".into(), "1".into(), "--tls-ca".into(), ca.clone()]);
        if let Some(who) = who {
            let file = |name: &str| certificates.text(&format!("{who}/{name}"));
            args.extend(["--tls-cert".into(), file("client.pem"), "--tls-key".into(), file("client.key")]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = run(&args, &lines(1..=10));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(publish("acme.a", Some("acme")), (Some(0), String::new()));
    let (code, stderr) = publish("other.a", Some("acme"));
    assert!(code == Some(4) && stderr.contains("not_authorized"), "{code:?} {stderr}");
    for who in [Some("nobody"), Some("plain")] {
        let (code, stderr) = publish("acme.a", who);
        assert_eq!(code, Some(4), "{who:?}: {stderr}");
    }
    let (code, stderr) = publish("acme.a", None);
    assert!(code == Some(4) && stderr.contains("--tls-cert"), "{code:?} {stderr}");
}

fn plain_text_stays_beside_it_on_a_port_of_its_own(case: &Case) {
    let certificates = Certificates::new(&["a"]);
    let (cert, key) = (certificates.text("a/server.pem"), certificates.text("a/server.key"));
    let plain = free_address().to_string();
    let server = case.start(&["--tls-cert", &cert, "--tls-key", &key, "--plaintext-listen", &plain]);
    let (secured, ca) = (url(&server), certificates.text("a/ca.pem"));
    let plain = format!("uringest://{plain}");
    let publish = |url: &str, range, args: &[&str]| {
        let args = [&["pub", "lines", "--server", url, "--retry-for", "1"], args].concat();
        let output = run(&args, &lines(range));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(publish(&secured, 1..=10, &["--tls-ca", &ca]), (Some(0), String::new()));
    assert_eq!(publish(&plain, 11..=20, &[]), (Some(0), String::new()));
    // Each port speaks one of them.
    let (code, stderr) = publish(&server.url(), 21..=21, &[]);
    assert!(code == Some(3) && stderr.contains("uringest+tls://"), "{code:?} {stderr}");
    let (code, stderr) = publish(&plain.replace("uringest:", "uringest+tls:"), 21..=21, &["--tls-ca", &ca]);
    assert!(code == Some(3), "{code:?} {stderr}");
    let args = ["sub", "lines", "--server", &plain, "--from", "earliest", "--count", "20"];
    assert_each_once(&Program::start(&args).numbers(), 1..=20);
    let log = server.log();
    for said in ["\"tls_started\"", "\"plaintext_listening\"", "\"data_speaks\":\"TLS 1.3\""] {
        assert!(log.contains(said), "{said}");
    }
}

fn what_cannot_be_used_is_refused_before_anything_is_touched(_: &Case) {
    let certificates = Certificates::new(&["a", "b"]);
    let data = certificates.text("data");
    let file = |name: &str| certificates.text(name);
    let rows: [(&[&str], &str); 4] = [
        (
            &["--tls-cert", &file("a/server.pem"), "--tls-key", &file("b/server.key")],
            "is not that of the certificate",
        ),
        (&["--tls-cert", &file("none.pem"), "--tls-key", &file("a/server.key")], "cannot read"),
        (&["--tls-cert", &file("a/server.pem")], "name the other with tls.key (--tls-key)"),
        (&["--tls-client-ca", &file("a/ca.pem")], "has no use without tls.cert and tls.key"),
    ];
    for (args, said) in rows {
        let (code, _, stderr) =
            ended(&[&["serve", "--listen", "127.0.0.1:0", "--data", &data], args].concat());
        assert!(code == Some(2) && stderr.contains(said), "{args:?}: {code:?} {stderr}");
        assert!(stderr.contains("try: "), "{stderr}");
    }
    assert!(!Path::new(&data).exists());
}
