//! Layers, refusals and rules, each with the message an operator sees.

use super::*;
use crate::limits;
use crate::proto::header::AckLevel;
use crate::tls::{CertificateFiles, ClientAuth, EarlyData, Records, ServerSettings};
use crate::topic::{Overflow, TopicKind};

struct Given<'a> {
    file: &'a str,
    env: &'a [(&'a str, &'a str)],
    flags: &'a [(&'static str, &'a str)],
}

const NOTHING: Given<'static> = Given { file: "", env: &[], flags: &[] };

fn loaded(given: &Given<'_>) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("u.toml");
    std::fs::write(&path, given.file).expect("written");
    let sources = Sources {
        file: Some(path),
        env: given.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        flags: given.flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
    };
    load(&sources).map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

fn refused(file: &str) -> String {
    loaded(&Given { file, ..NOTHING }).expect_err("refused")
}

#[test]
fn nothing_given_is_the_default_and_the_default_is_allowed() {
    let loaded = loaded(&NOTHING).expect("sound");
    assert_eq!(loaded.config.to_toml(), Config::default().to_toml());
    assert!(loaded.origins.values().all(|origin| *origin == Origin::Default));
    assert_eq!(loaded.config.listen.to_string(), "127.0.0.1:7440");
    assert_eq!(loaded.origins.len(), keys().count());
}

#[test]
fn flag_wins_over_variable_over_file_over_default() {
    let file = "shards = 2\nlisten = \"127.0.0.1:1\"\n[limits]\nidle_timeout_ms = 5000\n";
    let env = [("URINGEST_SHARDS", "3"), ("URINGEST_LISTEN", "127.0.0.1:2")];
    let flags = [("listen", "127.0.0.1:3")];
    let loaded = loaded(&Given { file, env: &env, flags: &flags }).expect("sound");
    assert_eq!(loaded.config.limits.idle_timeout_ms, 5_000);
    assert_eq!(loaded.config.shards, 3);
    assert_eq!(loaded.config.listen.port(), 3);
    assert_eq!(loaded.origins["listen"].to_string(), "--listen");
    assert_eq!(loaded.origins["shards"].to_string(), "$URINGEST_SHARDS");
    assert!(loaded.origins["limits.idle_timeout_ms"].to_string().ends_with("u.toml:4"));
    let shown = loaded.shown();
    let froms: Vec<_> =
        shown.iter().filter(|one| one.from != "default").map(|one| (one.key, one.from)).collect();
    assert_eq!(froms, [("listen", "flag"), ("shards", "env"), ("limits.idle_timeout_ms", "file")]);
}

#[test]
fn every_name_is_said_once_and_every_default_is_read_back() {
    let mut seen = std::collections::BTreeSet::new();
    for key in keys() {
        assert!(seen.insert(key.env()) && seen.insert(key.flag()), "{} is ambiguous", key.name);
        assert!(key.help().ends_with('.') && key.help().len() > 10, "{} has no help", key.name);
        let text = (key.default)();
        let flags = [(key.name, text.as_str()), ("advertise_host", "none")];
        let loaded = loaded(&Given { flags: &flags, ..NOTHING }).expect(key.name);
        assert_eq!(loaded.config.to_toml(), Config::default().to_toml(), "{} = {text}", key.name);
    }
}

#[test]
fn the_template_is_sound_and_so_are_its_comments() {
    assert_eq!(
        loaded(&Given { file: &template(), ..NOTHING }).expect("sound").config.to_toml(),
        Config::default().to_toml()
    );
    let digest = "0123456789abcdef".repeat(4);
    let mut all = String::new();
    for line in template().lines().filter(|line| !line.starts_with("# ")) {
        all += line.strip_prefix('#').unwrap_or(line);
        all += "\n";
    }
    let all = all.replace("64 hexadecimal digits", &digest).replace("shards = 2", "");
    let config = loaded(&Given { file: &all, ..NOTHING }).expect("sound").config;
    assert_eq!((config.topic.len(), config.tenant.len()), (2, 1));
    assert_eq!(config.tls.certificates.len(), 1);
    let mut bare = Config { topic: vec![], tenant: vec![], ..config.clone() };
    bare.tls.certificates.clear();
    assert_eq!(bare.to_toml(), Config::default().to_toml());
    // And what is printed as TOML reads back as the same.
    let again = loaded(&Given { file: &config.to_toml(), ..NOTHING }).expect("sound").config;
    assert_eq!(again.to_toml(), config.to_toml());
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    assert_eq!(refused("shard = 2"), "shard (u.toml:1): unknown key; did you mean shards?");
    assert_eq!(
        refused("\n[limits]\nframe_byte_max = 1"),
        "limits.frame_byte_max (u.toml:3): unknown key; did you mean limits.frame_bytes_max?"
    );
    assert_eq!(
        refused("frame_bytes_max = \"64KiB\""),
        "frame_bytes_max (u.toml:1): unknown key; did you mean limits.frame_bytes_max?"
    );
    assert_eq!(refused("[limit]\nx = 1"), "limit (u.toml:1): unknown key; did you mean limits?");
    assert!(refused("zzzzzzzzzzzz = 1").contains("--template"));
    let env = [("URINGEST_SHARD", "2"), ("OTHER", "x"), ("URINGEST_SERVICE_HOST", "10.0.0.1")];
    assert_eq!(
        loaded(&Given { env: &env, ..NOTHING }).expect_err("refused"),
        "URINGEST_SHARD ($URINGEST_SHARD): unknown variable; did you mean URINGEST_SHARDS?"
    );
    assert_eq!(
        refused("[[topic]]\nname = \"a\"\npartition = 2"),
        "topic.partition (u.toml:3): unknown key; did you mean partitions?"
    );
}

#[test]
fn a_refused_value_says_what_was_given_where_and_what_is_allowed() {
    assert_eq!(
        refused("shards = 0"),
        "shards (u.toml:1): \"0\" is too small; allowed: a number from 1 to 64"
    );
    assert_eq!(
        refused("[limits]\nframe_bytes_max = \"8MiB\""),
        "limits.frame_bytes_max (u.toml:2): \"8MiB\" is too large; allowed: bytes from 16KiB to 4MiB (as 65536, 64KiB, 1GiB)"
    );
    assert_eq!(
        refused("io = \"epol\""),
        "io (u.toml:1): \"epol\" is none of them; allowed: auto, uring, epoll"
    );
    assert_eq!(refused("shards = [1]"), "shards (u.toml:1): array given; allowed: a number from 1 to 64");
    assert!(refused("listen = \"localhost:1\"").contains("an IP address and port"));
    assert!(refused("listen = \n").starts_with("u.toml:1: is not TOML: "));
    let env = [("URINGEST_PIN", "maybe")];
    let flags = [("memory.straddle_bytes", "12 parsecs")];
    let both = loaded(&Given { env: &env, flags: &flags, ..NOTHING }).expect_err("refused");
    assert!(both.contains("pin ($URINGEST_PIN): \"maybe\" is neither; allowed: true or false"));
    assert!(both.contains("(--memory-straddle-bytes): \"12 parsecs\" has no unit of bytes"));
}

#[test]
fn rules_between_settings_name_the_one_to_change() {
    let rows: &[(&str, &str)] = &[
        (
            "[limits]\nframe_bytes_max = \"16KiB\"\nrecord_bytes_max = \"16KiB\"",
            "limits.record_bytes_max (u.toml:3)",
        ),
        (
            "[memory]\nstraddle_bytes = \"3MiB\"",
            "memory.straddle_bytes (u.toml:2): 3MiB is not a power of two",
        ),
        (
            "[limits]\nframe_bytes_max = \"4MiB\"\n[memory]\nstraddle_bytes = \"8MiB\"\n[topics]\nretention_bytes = \"64MiB\"",
            "memory.straddle_bytes",
        ),
        (
            "io = \"epoll\"\nio_tier = 1",
            "io_tier (u.toml:2): tiers are io_uring's and io is epoll: leave io_tier out",
        ),
        ("listen = \"0.0.0.0:7440\"", "insecure-plaintext"),
        ("admin = \"0.0.0.0:7441\"", "needs access.admin_token_sha256"),
        ("admin = \"0.0.0.0:7441\"", "the admin port speaks plain HTTP"),
        ("insecure_plaintext = true\nadmin = \"0.0.0.0:7441\"", "needs access.admin_token_sha256"),
        ("admin = \"127.0.0.1:7440\"", "is also the data port"),
        ("shard_ports = 7440", "contains the port of listen"),
        ("shard_ports = 65535\nshards = 2", "leaves no port"),
        ("advertise_host = \"a\"", "has no use without shard_ports"),
        (
            "[limits]\nconnections_max = 10\nconnections_per_address = 11",
            "is more than limits.connections_max",
        ),
        ("[topics]\nretention_bytes = \"2GiB\"", "no room for one topic"),
        ("[limits]\nframe_bytes_max = \"4MiB\"\n[topics]\nretention_bytes = \"8MiB\"", "less than 4 frames"),
        (
            "[[topic]]\nname = \"a\"\npartitions = 17",
            "memory.retention_budget_bytes (default): 1GiB is less than",
        ),
        ("[[topic]]\nname = \"a\"\n[[topic]]\nname = \"a\"", "is listed twice"),
        ("[[topic]]\nname = \"a b\"", "contains ' '"),
        ("[[topic]]\npartitions = 1", "has no name"),
        ("[topic]\nname = \"a\"", "two brackets"),
        ("[[tenant]]\nname = \"a\"", "has no token_sha256"),
        ("[[tenant]]\nname = \"a\"\ntoken_sha256 = [\"12\"]\nrules = []", "64 hexadecimal digits"),
        ("[[tenant]]\nname = \"a\"\ntoken_sha256 = []\nrules = []", "has no token_sha256"),
        (
            "[[tenant]]\nname = \"a\"\ntoken_sha256 = []\nrules = [{ prefix = \"\", verbs = [\"write\"] }]",
            "publish, subscribe, admin",
        ),
    ];
    for (file, expected) in rows {
        let message = refused(file);
        assert!(message.contains(expected), "{file}\n gave: {message}\n not: {expected}");
    }
    let sound = |file: &str| loaded(&Given { file, ..NOTHING }).map(|_| ()).expect(file);
    sound("listen = \"0.0.0.0:1\"\ninsecure_plaintext = true");
    sound("listen = \"[::1]:1\"");
}

const PAIR: &str = "[tls]\ncert = \"s.pem\"\nkey = \"s.key\"\n";
const MUTUAL: &str = "[tls]\ncert = \"s.pem\"\nkey = \"s.key\"\nclient_ca = \"ca.pem\"\n";
const TENANT: &str = "[[tenant]]\nname = \"a\"\nrules = [{ prefix = \"\", verbs = [\"publish\"] }]\n";

#[test]
fn tls_settings_have_what_they_need_and_a_use() {
    let rows = [
        (
            "[tls]\ncert = \"s.pem\"",
            "tls.cert (u.toml:2): s.pem is the certificate of a pair: name the other with tls.key (--tls-key)",
        ),
        (
            "[tls]\nkey = \"s.key\"",
            "tls.key (u.toml:2): s.key is the key of a pair: name the other with tls.cert (--tls-cert)",
        ),
        ("[tls]\ncert = \"\"", "tls.cert (u.toml:2): \"\" is empty; allowed: a file, or none"),
        ("[tls]\ncerts = \"a\"", "tls.certs (u.toml:2): unknown key; did you mean tls.cert?"),
        (
            "[tls]\nclient_ca = \"ca.pem\"",
            "tls.client_ca (u.toml:2): has no use without tls.cert and tls.key",
        ),
        ("[tls]\nclient_auth = \"required\"", "tls.client_auth (u.toml:2): has no use"),
        ("[tls]\ncrls = [\"a.crl\"]", "tls.crls (u.toml:2): has no use"),
        ("[tls]\nearly_data = true", "tls.early_data (u.toml:2): has no use"),
        ("plaintext_listen = \"127.0.0.1:1\"", "plaintext_listen (u.toml:1): has no use"),
        (&format!("{PAIR}client_auth = \"optional\""), "tls.client_auth (u.toml:4): needs tls.client_ca"),
        (&format!("{MUTUAL}client_auth = \"none\""), "tls.client_auth (u.toml:5): asks for no certificates"),
        (&format!("{PAIR}crls = [\"a.crl\"]"), "tls.crls (u.toml:4): has no use without tls.client_ca"),
        (
            &format!("{PAIR}tenant_rule = \"dns:{{tenant}}.example\"\n{TENANT}"),
            "tls.tenant_rule (u.toml:4): has no use without tls.client_ca",
        ),
        (
            &format!("{MUTUAL}tenant_rule = \"dns:{{tenant}}.example\""),
            "tls.tenant_rule (u.toml:5): names tenants, and no [[tenant]]",
        ),
        (
            &format!("{MUTUAL}tenant_rule = \"dns:{{tenant}}\""),
            "\"dns:{tenant}\" is no such rule; allowed: dns: or uri:",
        ),
        (&format!("{MUTUAL}{TENANT}"), "tenant a (u.toml:5): has no token_sha256"),
        ("[tls]\ncrls = \"a.crl\"", "tls.crls (u.toml:2): string given; allowed: a list"),
        ("[tls]\ncrls = [\"a,b\"]", "tls.crls (u.toml:2): array given; allowed: a list"),
        ("[tls]\nrecords = \"other\"", "allowed: own, rustls"),
        ("[tls]\nearly_data_bytes = 5", "is too small"),
        ("[tls]\ncertificates = 1", "write [[tls.certificates]] with two brackets"),
        ("[[tls.certificates]]\ncert = \"a\"", "tls.certificates (u.toml:1): has no key; allowed: a file"),
        (
            "[[tls.certificates]]\ncert = \"a\"\nkey = \"b\"\nname = \"c\"",
            "tls.certificates.name (u.toml:4): unknown key",
        ),
    ];
    for (file, expected) in rows {
        let message = refused(file);
        assert!(message.contains(expected), "{file}\n gave: {message}\n not: {expected}");
    }
    let many =
        "[[tls.certificates]]\ncert = \"a\"\nkey = \"b\"\n".repeat(crate::limits::TLS_CERTIFICATES_MAX + 1);
    assert!(refused(&many).contains("is one too many; allowed: 64"));
}

#[test]
fn tls_settings_name_certificates_and_how_clients_show_theirs() {
    let server = |file: &str| loaded(&Given { file, ..NOTHING }).expect(file).config.tls.server();
    assert_eq!(server(""), None);
    let plain = server(PAIR).expect("TLS");
    let pair = |name: &str| CertificateFiles {
        certificate: format!("{name}.pem").into(),
        key: format!("{name}.key").into(),
    };
    let expected = ServerSettings {
        certificates: vec![pair("s")],
        client_auth: ClientAuth::None,
        revocation_lists: Vec::new(),
        tenant_rule: None,
        early_data: EarlyData::Off,
    };
    assert_eq!(plain, expected);
    let ca = || "ca.pem".into();
    assert_eq!(server(MUTUAL).expect("TLS").client_auth, ClientAuth::Required(ca()));
    let optional = format!("{MUTUAL}client_auth = \"optional\"");
    assert_eq!(server(&optional).expect("TLS").client_auth, ClientAuth::Optional(ca()));
    let all = format!(
        "{MUTUAL}crls = [\"a.crl\", \"b.crl\"]\ntenant_rule = \"dns:{{tenant}}.example\"\nearly_data = true\n\
         early_data_bytes = 2048\nearly_data_sessions = 7\nrecords = \"rustls\"\n\
         [[tls.certificates]]\ncert = \"t.pem\"\nkey = \"t.key\"\n{TENANT}"
    );
    let config = loaded(&Given { file: &all, ..NOTHING }).expect("sound").config;
    let expected = ServerSettings {
        certificates: vec![pair("s"), pair("t")],
        client_auth: ClientAuth::Required(ca()),
        revocation_lists: vec!["a.crl".into(), "b.crl".into()],
        tenant_rule: Some("dns:{tenant}.example".parse().expect("a rule")),
        early_data: EarlyData::Allowed { bytes: 2048, sessions: 7 },
    };
    assert_eq!(config.tls.server(), Some(expected));
    assert_eq!(config.tls.records, Records::Rustls);
    let again = loaded(&Given { file: &config.to_toml(), ..NOTHING }).expect("sound").config;
    assert_eq!((again.to_toml(), again.tls.server()), (config.to_toml(), config.tls.server()));
    let flags = [("tls.cert", "f.pem"), ("tls.key", "f.key")];
    let env = [("URINGEST_TLS_CLIENT_CA", "ca.pem"), ("URINGEST_TLS_CRLS", "a.crl,b.crl")];
    let settings = loaded(&Given { flags: &flags, env: &env, ..NOTHING }).expect("sound").config.tls.server();
    let settings = settings.expect("TLS");
    assert_eq!(
        (settings.certificates.as_slice(), settings.revocation_lists.len()),
        ([pair("f")].as_slice(), 2)
    );
}

#[test]
fn plain_text_stays_on_loopback_unless_that_is_meant() {
    let out = "listen = \"0.0.0.0:7440\"\n";
    for said in
        ["--tls-cert FILE --tls-key FILE", "uringest cert dev", "listen on 127.0.0.1", "--insecure-plaintext"]
    {
        assert!(refused(out).contains(said), "{}", refused(out));
    }
    let sound = |file: &str| loaded(&Given { file, ..NOTHING }).map(|_| ()).expect(file);
    sound(&format!("{out}{PAIR}"));
    sound(&format!("{out}plaintext_listen = \"127.0.0.1:7442\"\n{PAIR}"));
    let beside = format!("plaintext_listen = \"0.0.0.0:7442\"\n{PAIR}");
    assert!(refused(&beside).contains("plaintext_listen (u.toml:1): 0.0.0.0:7442 is beyond loopback"));
    sound(&format!("insecure_plaintext = true\n{beside}"));
    let same = format!("{out}plaintext_listen = \"127.0.0.1:7440\"\n{PAIR}");
    assert!(
        refused(&same).contains("plaintext_listen (u.toml:2): 127.0.0.1:7440 is also the port of listen")
    );
    // The admin port has no TLS, whatever the data port speaks.
    let token = "0123456789abcdef".repeat(4);
    let admin = format!("admin = \"0.0.0.0:7441\"\n[access]\nadmin_token_sha256 = \"{token}\"\n{PAIR}");
    assert!(refused(&admin).contains("plain HTTP"));
    sound(&format!("insecure_plaintext = true\n{admin}"));
}

/// What this build has is taken, what it has not is refused with the build that has it.
#[test]
fn a_backend_is_asked_for_by_a_build_that_has_it() {
    for (name, file) in [("uring", "io = \"uring\""), ("uring", "io_tier = 1"), ("epoll", "io = \"epoll\"")] {
        let result = loaded(&Given { file, ..NOTHING });
        if crate::io::choice::is_built(name) {
            assert!(result.is_ok(), "{file}: {result:?}");
        } else {
            let message = result.expect_err("not in this build");
            assert!(
                message.contains("this build has no") && message.contains(&format!("--features {name}")),
                "{message}"
            );
        }
    }
}

#[test]
fn lists_are_read_with_their_defaults() {
    let file = "[[topic]]\nname = \"a/b\"\npartitions = 3\nkind = \"live\"\noverflow = \"reject\"\n\
                [[topic]]\nname = \"c\"\nretention_bytes = \"2MiB\"\n[limits]\nframe_bytes_max = 65536\n";
    let config = loaded(&Given { file, ..NOTHING }).expect("sound").config;
    let [live, memory] = config.topic.as_slice() else { panic!("two topics") };
    assert_eq!((live.kind, live.partitions, live.overflow), (TopicKind::Live, 3, Some(Overflow::Reject)));
    assert_eq!((memory.kind, memory.partitions, memory.overflow), (TopicKind::Memory, 1, None));
    assert_eq!(config.ring_bytes(memory.kind, memory.retention_bytes), 2 << 20);
    assert_eq!(config.ring_bytes(live.kind, live.retention_bytes), crate::limits::LAGGING_BYTES_DEFAULT);
    assert_eq!(config.limits.record_bytes_max, 32 * 1024, "half a frame where nothing is said");
    assert_eq!(config.bulk_region_bytes(), 256 * 1024);
}

#[test]
fn bytes_are_read_as_people_write_them() {
    let rows: &[(&str, Option<u64>)] = &[
        ("65536", Some(65_536)),
        ("64KiB", Some(65_536)),
        ("64 kib", Some(65_536)),
        ("1_000", Some(1_000)),
        ("2MB", Some(2_000_000)),
        ("1TiB", Some(1 << 40)),
        ("", None),
        ("KiB", None),
        ("-1", None),
        ("1.5MiB", None),
        ("99999999TiB", None),
    ];
    for (text, bytes) in rows {
        assert_eq!(parse_bytes(text).ok(), *bytes, "{text}");
    }
    for bytes in [0, 1, 1023, 1024, 1536, 1 << 20, (1 << 30) + 1, u64::MAX] {
        assert_eq!(parse_bytes(&show_bytes(bytes)), Ok(bytes));
    }
}

#[test]
fn a_missing_file_is_named() {
    let sources = Sources { file: Some("/nonexistent/u.toml".into()), ..Sources::default() };
    let message = load(&sources).expect_err("refused").to_string();
    assert!(message.contains("cannot read /nonexistent/u.toml: No such file"), "{message}");
}

/// The table of `docs/operations.md`.
fn settings_table() -> String {
    let mut out = String::from("| setting | default | allowed | meaning |\n|---|---|---|---|\n");
    for key in keys() {
        let default = if key.name == "shards" { "CPUs it may use".to_owned() } else { (key.default)() };
        let allowed = (key.allowed)();
        out += &format!("| `{}` | {default} | {allowed} | {} |\n", key.name, key.help());
    }
    out
}

/// `UPDATE_DOCS=1 cargo test --lib config::` writes the table into the document.
#[test]
fn the_document_has_every_setting() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let document = std::fs::read_to_string(path).expect("docs/operations.md");
    let table = settings_table();
    let (begin, end) = ("<!-- settings: begin -->\n", "<!-- settings: end -->");
    let written =
        document.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map(|(table, _)| table);
    if let Some(old) = written.filter(|old| *old != table && std::env::var_os("UPDATE_DOCS").is_some()) {
        return std::fs::write(path, document.replacen(old, &table, 1)).expect("the document can be written");
    }
    assert_eq!(
        written,
        Some(table.as_str()),
        "UPDATE_DOCS=1 cargo test --lib config:: writes it: between the marks of docs/operations.md there has to be:\n{table}"
    );
}

#[test]
fn topics_of_kind_log_have_more_to_say() {
    let file = "[storage]\nsegment_bytes = \"8MiB\"\nretention_ms = \"7d\"\n[[topic]]\nname = \"a\"\nkind = \"log\"\n\
                durability = \"durable\"\nretention_bytes = \"3TiB\"\nsegment_bytes = \"16MiB\"\n\
                [[topic]]\nname = \"b\"\nkind = \"log\"\nretention_ms = \"none\"\n";
    let config = loaded(&Given { file, ..NOTHING }).expect("sound").config;
    let settings = |at: usize| {
        let TopicConfig { kind, retention_bytes, log, .. } = &config.topic[at];
        config.log_settings(*kind, *retention_bytes, *log).expect("kept on disk")
    };
    let (a, b) = (settings(0), settings(1));
    assert_eq!((a.durability, a.retention_bytes, a.segment_bytes), (AckLevel::Durable, 3 << 40, 16 << 20));
    assert_eq!(a.retention_ms, 7 * 24 * 3_600_000);
    assert_eq!((b.durability, b.retention_ms, b.segment_bytes), (AckLevel::Received, 0, 8 << 20));
    assert_eq!(b.retention_bytes, limits::LOG_RETENTION_BYTES_DEFAULT);
    assert_eq!(config.ring_bytes(TopicKind::Log, Some(3 << 40)), limits::LOG_RING_BYTES_DEFAULT);
    assert_eq!(config.log_dir(), config.data.join("log"));
    assert!(config.log_settings(TopicKind::Memory, None, LogWishes::default()).is_none());
    let again = loaded(&Given { file: &config.to_toml(), ..NOTHING }).expect("sound").config;
    assert_eq!(again.to_toml(), config.to_toml());
}

#[test]
fn what_is_for_logs_alone_is_refused_elsewhere_and_so_are_odd_sizes() {
    assert_eq!(
        refused("[[topic]]\nname = \"a\"\ndurability = \"written\""),
        "topic.durability (u.toml:3): is for topics of kind log"
    );
    assert_eq!(
        refused("[storage]\nsegment_bytes = 1048577"),
        "storage.segment_bytes (u.toml:2): 1048577 is not a multiple of 4KiB"
    );
    let large = "[limits]\nframe_bytes_max = \"4MiB\"\n[topics]\nretention_bytes = \"64MiB\"\n";
    assert_eq!(
        refused(&format!("{large}log_ring_bytes = \"8MiB\"")),
        "topics.log_ring_bytes (u.toml:5): 8MiB is less than 4 frames of limits.frame_bytes_max"
    );
    assert_eq!(
        refused(&format!("{large}[[topic]]\nname = \"a\"\nkind = \"log\"\nsegment_bytes = \"8MiB\"")),
        "topic a.segment_bytes (default): 8MiB is less than 4 frames of limits.frame_bytes_max"
    );
    assert!(refused("[storage]\nretention_ms = \"7 weeks\"").contains("allowed: an age up to 36500d"));
}
