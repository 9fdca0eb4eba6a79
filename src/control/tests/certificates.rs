//! Certificates of a running server: what reaches the shards, and what does not.

use tempfile::TempDir;

use super::*;
use crate::tls::dev::{Request, generate, write};

/// A configuration in a file, and certificates in directories beside it; `now` is a link to one of them.
struct Place {
    directory: TempDir,
}

impl Place {
    /// With the certificate `names[0]` in place, and the others beside it.
    fn new(names: &[&str]) -> Place {
        let place = Place { directory: tempfile::tempdir().expect("a directory") };
        for &name in names {
            place.make(name, wall_ns() / 1_000_000_000);
        }
        place.swap(names[0]);
        place.say("");
        place
    }

    /// A pair for `NAME.example`, made at this time.
    fn make(&self, name: &str, now_s: u64) {
        let server_names = vec![format!("{name}.example")];
        let request = Request { server_names, client_names: Vec::new(), now_s, days: 30 };
        write(&self.path(name), &generate(&request).expect("keys")).expect("written");
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// As Kubernetes swaps the files of a secret: a new link takes the old one's place.
    fn swap(&self, name: &str) {
        std::os::unix::fs::symlink(name, self.path("next")).expect("a link");
        std::fs::rename(self.path("next"), self.path("now")).expect("renamed");
    }

    /// `[tls]` as it is in the file, with the pair in `now` and what else is said.
    fn say(&self, more: &str) {
        let (cert, key) = (self.path("now/server.pem"), self.path("now/server.key"));
        std::fs::write(self.file(), format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n{more}\n"))
            .expect("written");
    }

    fn file(&self) -> std::path::PathBuf {
        self.path("uringest.toml")
    }

    fn start(&self) -> Rig {
        let sources = Sources { file: Some(self.file()), ..Sources::default() };
        let config = crate::config::load(&sources).expect("valid").config;
        Rig::start_from(&self.path("data"), config, 0, Some(sources))
    }
}

impl Rig {
    /// Every shard is told of these names next, and control says the same.
    fn renewed(&self, names: &[&str]) {
        for shard in 0..SHARDS.into() {
            let told = std::iter::from_fn(|| Some(self.seen(shard))).find_map(|seen| match seen {
                Seen::Tls(names) => Some(names),
                _ => None,
            });
            assert_eq!(told.expect("told"), names, "shard {shard}");
        }
        assert_eq!(self.names(), names);
    }

    fn names(&self) -> Vec<String> {
        let (_, status) = self.call("GET", "/v1/server", "");
        let certificates = status["tls"]["certificates"].as_array().expect("TLS is on").clone();
        let names = certificates.iter().flat_map(|one| one["names"].as_array().expect("names").clone());
        names.map(|name| name.as_str().expect("a name").to_owned()).collect()
    }

    fn nothing_was_told(&self) {
        for seen in self.seen.iter().flat_map(|seen| seen.try_iter()) {
            assert!(!matches!(seen, Seen::Tls(_)), "{seen:?}");
        }
    }

    fn is_degraded(&self, key: &str) -> bool {
        let (_, readiness) = self.call("GET", "/readyz", "");
        readiness["degraded"].as_array().expect("a list").iter().any(|one| one["key"] == key)
    }

    fn until_degraded(&self, key: &str, wanted: bool) {
        self.until("/livez", |_, _| self.is_degraded(key) == wanted);
    }

    fn metric(&self, name: &str) -> String {
        let (_, page) = self.raw("GET", "/metrics", "", "");
        let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().expect("a value").to_owned()
    }

    fn reload(&self) -> (u16, Value) {
        self.call("POST", "/v1/server/reload", "")
    }
}

#[test]
fn other_files_reach_every_shard_unasked() {
    let place = Place::new(&["a", "b"]);
    let rig = place.start();
    assert_eq!(rig.names(), ["a.example"]);
    rig.nothing_was_told();
    place.swap("b");
    rig.renewed(&["b.example"]);
    assert_eq!(rig.metric("uringest_tls_reloads_total"), "1");
    let expiry: u64 = rig
        .metric("uringest_tls_certificate_expiry_timestamp_seconds{name=\"b.example\"")
        .parse()
        .expect("a number");
    let in_s = expiry - wall_ns() / 1_000_000_000;
    assert!((29 * 86_400..32 * 86_400).contains(&in_s), "{in_s}");
    assert_eq!(rig.stop(), exit::CLEAN);
}

#[test]
fn files_that_do_not_belong_together_change_nothing_and_are_told() {
    let place = Place::new(&["a", "b"]);
    let rig = place.start();
    // The certificate of another key, as in the middle of a rotation that stopped there.
    std::fs::copy(place.path("b/server.pem"), place.path("a/server.pem")).expect("copied");
    rig.until_degraded("tls_reload_failed", true);
    let (status, readiness) = rig.call("GET", "/readyz", "");
    assert!(status == 200 && readiness.to_string().contains("is not that of the certificate"), "{readiness}");
    assert_eq!(rig.names(), ["a.example"], "the old one stays");
    let (_, server) = rig.call("GET", "/v1/server", "");
    assert!(server["tls"]["fault"].as_str().expect("a fault").contains("server.key"), "{server}");
    let failures = || rig.metric("uringest_tls_reload_failures_total");
    assert_eq!(failures(), "1");
    // Who asks is told again.
    let (status, error) = rig.reload();
    assert_eq!((status, &error["error"]["code"]), (409, &json!("reload_refused")), "{error}");
    assert_eq!(failures(), "2");
    rig.nothing_was_told();
    // With its key it is whole.
    std::fs::copy(place.path("b/server.key"), place.path("a/server.key")).expect("copied");
    rig.renewed(&["b.example"]);
    rig.until_degraded("tls_reload_failed", false);
    assert_eq!(failures(), "2");
    assert_eq!(rig.stop(), exit::CLEAN);
}

#[test]
fn the_former_files_mend_a_fault() {
    let place = Place::new(&["a"]);
    let rig = place.start();
    std::fs::rename(place.path("a/server.key"), place.path("a/away")).expect("renamed");
    rig.until_degraded("tls_reload_failed", true);
    std::fs::rename(place.path("a/away"), place.path("a/server.key")).expect("renamed");
    rig.until_degraded("tls_reload_failed", false);
    rig.nothing_was_told();
    assert_eq!(rig.metric("uringest_tls_reloads_total"), "0");
    assert_eq!(rig.stop(), exit::CLEAN);
}

#[test]
fn a_reload_takes_other_settings_whole_or_not_at_all() {
    let place = Place::new(&["a", "b"]);
    let rig = place.start();
    let second = |name: &str| {
        let (cert, key) =
            (place.path(&format!("{name}/server.pem")), place.path(&format!("{name}/server.key")));
        format!("[[tls.certificates]]\ncert = {cert:?}\nkey = {key:?}\n")
    };
    place.say(&second("b"));
    assert_eq!(rig.reload(), (200, json!({ "restart_needed": [] })));
    rig.renewed(&["a.example", "b.example"]);
    // Neither the tenants nor the certificates of a configuration with a fault are taken.
    let digest = TokenHash::of("tenant").to_hex();
    let tenant = format!("[[tenant]]\nname = \"a\"\ntoken_sha256 = [{digest:?}]\nrules = []\n");
    place.say(&format!("{}{tenant}", second("c")));
    let (status, error) = rig.reload();
    assert_eq!((status, &error["error"]["code"]), (409, &json!("reload_refused")), "{error}");
    assert!(error.to_string().contains("c/server.pem"), "{error}");
    assert_eq!(rig.metric("uringest_tls_reload_failures_total"), "1");
    assert!(!rig.is_degraded("tls_reload_failed"), "what is in force is as good as it was");
    for seen in rig.seen.iter().flat_map(|seen| seen.try_iter()) {
        assert!(matches!(seen, Seen::Access(true)), "{seen:?}");
    }
    assert_eq!(rig.names(), ["a.example", "b.example"]);
    // Who does the records is decided at the start; the rest is taken.
    place.say("records = \"rustls\"");
    assert_eq!(rig.reload(), (200, json!({ "restart_needed": ["tls.records"] })));
    rig.renewed(&["a.example"]);
    // And so is whether there is TLS.
    std::fs::write(place.file(), "").expect("written");
    assert_eq!(rig.reload(), (200, json!({ "restart_needed": ["tls.cert", "tls.key"] })));
    assert_eq!(rig.names(), ["a.example"]);
    rig.nothing_was_told();
    assert_eq!(rig.stop(), exit::CLEAN);
}

#[test]
fn a_certificate_that_is_over_is_a_degradation() {
    let place = Place::new(&["a"]);
    place.make("old", 1_700_000_000);
    place.swap("old");
    let rig = place.start();
    rig.until_degraded("tls_certificate_expired", true);
    place.swap("a");
    rig.renewed(&["a.example"]);
    rig.until_degraded("tls_certificate_expired", false);
    assert_eq!(rig.stop(), exit::CLEAN);
}

#[test]
fn without_tls_there_is_nothing_to_look_at() {
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(directory.path(), small(), 0);
    assert_eq!(rig.call("GET", "/v1/server", "").1["tls"], Value::Null);
    assert_eq!(rig.metric("uringest_tls_reload_failures_total"), "0");
    assert_eq!(rig.stop(), exit::CLEAN);
}

#[test]
fn what_a_peer_does_wrong_is_no_degradation() {
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(directory.path(), small(), 0);
    rig.poke(0, Poke::Report(Report::Event { shard: ShardId(0), event: "tls_failed", detail: "cut".into() }));
    // Topics are made after the report was taken.
    rig.call("POST", "/v1/topics", r#"{"name":"a"}"#);
    assert!(!rig.is_degraded("tls_failed"));
    assert_eq!(rig.stop(), exit::CLEAN);
}
