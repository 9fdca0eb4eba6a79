//! Configurations, from a file, variables and flags: refused with the setting and what is allowed, or accepted and then the
//! same when it is printed and read again.

use std::cell::OnceCell;
use std::fmt::Write as _;

use crate::mutation::mutate;
use crate::story::Story;
use uringest::config::{Config, ConfigError, Fault, Loaded, Origin, Sources, TopicConfig, keys, load};
use uringest::server::ServerPlan;

/// Settings of one story.
const SETTINGS_MAX: u8 = 24;
/// What every secret of a story begins with, so that it is known where it must not be.
const SECRET: &str = "tok3n";

const VALUES: [&str; 40] = [
    "",
    "none",
    "0",
    "1",
    "2",
    "7",
    "64",
    "65",
    "4095",
    "4096",
    "65536",
    "65_536",
    "0x40",
    "-1",
    "1.5",
    "1e3",
    "true",
    "off",
    "auto",
    "uring",
    "epoll",
    "log",
    "live",
    "durable",
    "drop_oldest",
    "reject",
    "optional",
    "required",
    "json",
    "10s",
    "2min",
    "7d",
    "none,a.pem",
    "127.0.0.1:7440",
    "127.0.0.1:0",
    "0.0.0.0:7441",
    "[::1]:7450",
    "a.pem",
    "b/c",
    "dns:{tenant}.example",
];
const NAMES: [&str; 8] = ["a", "a/b", "a.b-c_d", ".a", "", "a b", "default", "sensors/north"];

/// One story. The first byte says of which kind.
pub fn run(story: &[u8]) {
    let mut story = Story(story);
    match story.byte() % 3 {
        0 => check(&Given { file: String::from_utf8_lossy(story.0).into_owned(), ..Given::default() }),
        1 => {
            let given = told(&mut story);
            check(&given);
            let mut file = given.file.into_bytes();
            mutate(&mut file, &mut story);
            check(&Given { file: String::from_utf8_lossy(&file).into_owned(), ..Given::default() });
        }
        _ => {
            let length = story.number() % 4096;
            let mut file = story.bytes(length).to_vec();
            mutate(&mut file, &mut story);
            check(&Given { file: String::from_utf8_lossy(&file).into_owned(), ..Given::default() });
        }
    }
}

/// What there is to read.
#[derive(Debug, Clone, Default)]
struct Given {
    file: String,
    env: Vec<(String, String)>,
    flags: Vec<(&'static str, String)>,
}

impl Given {
    fn load(&self) -> Result<Loaded, ConfigError> {
        thread_local! {
            static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
        }
        FOLDER.with(|folder| {
            let folder = folder.get_or_init(|| tempfile::tempdir().expect("a directory"));
            let path = folder.path().join("u.toml");
            std::fs::write(&path, &self.file).expect("written");
            load(&Sources { file: Some(path), env: self.env.clone(), flags: self.flags.clone() })
        })
    }
}

fn check(given: &Given) {
    match given.load() {
        Ok(loaded) => accepted(given, &loaded),
        Err(error) => refused(given, &error),
    }
}

/// Every fault says where it is, in one line, and gives no secret away. (What to do about each is for the tests of `config`
/// to judge.)
fn refused(given: &Given, error: &ConfigError) {
    assert!(!error.faults.is_empty());
    assert_eq!(given.load().expect_err("as before"), *error, "the same is refused in the same way");
    for fault in &error.faults {
        told_where(given, fault);
        assert!(fault.message.len() > 3 && !fault.message.contains('\n'), "{fault:?}");
        assert!(!fault.message.contains(SECRET), "a secret is shown: {fault}");
    }
    assert_eq!(error.to_string().lines().count(), error.faults.len());
}

/// The setting is there, or is the one that is unknown, and the place is one of what was given.
fn told_where(given: &Given, fault: &Fault) {
    match &fault.origin {
        Origin::Default => assert!(!fault.key.is_empty(), "{fault:?}"),
        Origin::File(path, line) => {
            assert!(path.ends_with("u.toml"));
            assert!((1..=given.file.split('\n').count()).contains(line), "{fault}");
        }
        Origin::Env(name) => assert!(given.env.iter().any(|(given, _)| given == name), "{fault}"),
        Origin::Flag(flag) => {
            let key = keys().find(|key| format!("--{}", key.flag()) == *flag).expect("a flag there is");
            assert!(given.flags.iter().any(|(given, _)| *given == key.name), "{fault}");
        }
    }
    let known = keys().any(|key| key.name == fault.key);
    let listed = ["topic", "tenant", "tls.certificates"].iter().any(|list| fault.key.starts_with(list));
    let unknown = fault.message.starts_with("unknown ") || fault.message.starts_with("is not TOML");
    assert!(known || listed || unknown, "of no setting: {fault}");
}

/// What is accepted is usable, and the same when it is printed and read again.
fn accepted(given: &Given, loaded: &Loaded) {
    let config = &loaded.config;
    for key in keys() {
        assert!(loaded.origins.contains_key(key.name), "{} comes from nowhere", key.name);
    }
    let shown = loaded.shown();
    assert_eq!(shown.len(), keys().count());
    assert!(shown.iter().all(|shown| (shown.from == "default") == shown.at.is_empty()));
    ruled(config);

    let printed = Given { file: config.to_toml(), ..Given::default() };
    let again =
        printed.load().unwrap_or_else(|error| panic!("{error}\n{}\nof {given:?}", printed.file)).config;
    assert_same(&again, config);
    assert_eq!(again.to_toml(), printed.file);
    // A flag wins, and says the same as the file.
    let flags = config.all_texts();
    let flagged = Given { flags: flags.clone(), ..printed };
    let flagged = flagged.load().unwrap_or_else(|error| panic!("{error}\nof {given:?}"));
    assert_same(&flagged.config, config);
    assert!(flagged.origins.values().all(|origin| origin.layer() == "flag"));
    let env = keys().map(|key| {
        let text =
            flags.iter().find(|(name, _)| *name == key.name).expect("every setting has a text").1.clone();
        (key.env(), text)
    });
    let from_env = Given { env: env.collect(), file: lists(&config.to_toml()), ..Given::default() };
    let from_env = from_env.load().unwrap_or_else(|error| panic!("{error}\nof {given:?}"));
    assert_same(&from_env.config, config);
}

/// What only a file can say.
fn lists(printed: &str) -> String {
    printed.find("\n[[").map_or_else(String::new, |at| printed[at..].to_owned())
}

fn assert_same(one: &Config, other: &Config) {
    assert_eq!(one.all_texts(), other.all_texts());
    assert_eq!(one.topic, other.topic);
    assert_eq!(one.tls.certificates, other.tls.certificates);
    assert_eq!(one.tenant.len(), other.tenant.len());
    for (one, other) in one.tenant.iter().zip(&other.tenant) {
        assert_eq!((&one.name, &one.rules), (&other.name, &other.rules));
        let digests = |tokens: &[uringest::access::TokenHash]| {
            tokens.iter().map(|token| token.to_hex()).collect::<Vec<_>>()
        };
        assert_eq!(digests(&one.tokens), digests(&other.tokens));
    }
}

/// What later code takes for granted.
fn ruled(config: &Config) {
    let frame = u64::from(config.limits.frame_bytes_max);
    assert!((16 * 1024..=4 * 1024 * 1024).contains(&frame));
    assert!((1..frame).contains(&u64::from(config.limits.record_bytes_max)));
    assert!((1..=64).contains(&config.shards));
    assert!(
        config.bulk_region_bytes().is_power_of_two() && u64::from(config.bulk_region_bytes()) >= 2 * frame
    );
    let ring = |topic: &TopicConfig| config.ring_bytes(topic.kind, topic.retention_bytes);
    let mut sum = 0_u64;
    for (number, topic) in config.topic.iter().enumerate() {
        assert!(uringest::proto::control::topic_name_ok(&topic.name).is_ok(), "{topic:?}");
        assert!(
            config.topic[..number].iter().all(|other| other.name != topic.name),
            "{} is there twice",
            topic.name
        );
        assert!(topic.partitions >= 1 && ring(topic) >= 4 * frame, "{topic:?}");
        sum += ring(topic) * u64::from(topic.partitions);
        if let Some(settings) = config.log_settings(topic.kind, topic.retention_bytes, topic.log) {
            assert!(config.segment_bytes(settings.segment_bytes).is_multiple_of(4096));
            assert!(settings.segment_bytes >= 4 * frame, "{topic:?}");
        }
    }
    assert!(sum <= config.memory.retention_budget_bytes);
    assert_eq!(config.tenants_access().is_open(), config.tenant.is_empty());
    assert_eq!(config.tls.server().is_some(), config.tls.is_on());
    // Nothing beyond loopback that nobody asked for.
    let exposed = |address: std::net::SocketAddr| !address.ip().to_canonical().is_loopback();
    assert!(config.insecure_plaintext || !exposed(config.admin));
    assert!(config.insecure_plaintext || config.tls.is_on() || !exposed(config.listen));
    assert!(!exposed(config.admin) || config.access.admin_token_sha256.is_some());
    let plan = ServerPlan::new(config);
    assert!(plan.limits.connections > config.limits.connections_max && plan.straddle_bytes.is_power_of_two());
}

/// Settings by all three ways, and lists.
fn told(story: &mut Story<'_>) -> Given {
    let mut given = Given::default();
    let mut lists = String::new();
    for _ in 0..story.byte() % SETTINGS_MAX {
        match story.byte() % 12 {
            0 => topic(story, &mut lists),
            1 => tenant(story, &mut lists),
            2 => {
                let (cert, key) = (value(story), value(story));
                write!(lists, "[[tls.certificates]]\ncert = {}\nkey = {}\n", quoted(&cert), quoted(&key))
                    .expect("text");
            }
            3 => {
                let length = usize::from(story.byte()) % 40;
                let line = String::from_utf8_lossy(story.bytes(length)).replace(SECRET, "");
                given.file += &line;
                given.file.push('\n');
            }
            way => setting(story, way, &mut given),
        }
    }
    given.file += &lists;
    given
}

fn setting(story: &mut Story<'_>, way: u8, given: &mut Given) {
    let key = keys().nth(usize::from(story.byte()) % keys().count()).expect("so many there are");
    let text = match story.byte() % 4 {
        0 => (key.default)(),
        _ if (key.is_secret)() => secret(story),
        1 => near_default(&(key.default)(), story.byte()),
        _ => value(story),
    };
    match way {
        4 => given.env.push((key.env(), text)),
        5 => given.flags.push((key.name, text)),
        // TOML refuses a setting that is there twice.
        _ if given.file.contains(&format!("\n{} = ", key.name)) => {}
        _ if (key.is_list)() => {
            let items: Vec<_> = text.split(',').map(quoted).collect();
            given.file += &format!("\n{} = [{}]\n", key.name, items.join(", "));
        }
        _ if way.is_multiple_of(2) || text.is_empty() => {
            given.file += &format!("\n{} = {}\n", key.name, quoted(&text))
        }
        _ => given.file += &format!("\n{} = {text}\n", key.name),
    }
}

/// Another number of the default's kind.
fn near_default(text: &str, factor: u8) -> String {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse::<u64>().map(|number| number * u64::from(factor % 8) / 2);
    number.map_or_else(|_| text.to_owned(), |number| format!("{number}{}", &text[end..]))
}

/// A digest, or something that was given for one by mistake.
fn secret(story: &mut Story<'_>) -> String {
    match story.byte() {
        byte if byte & 7 == 0 => format!("{SECRET}-{byte}"),
        byte => format!("{:02x}", byte % 4).repeat(32),
    }
}

fn value(story: &mut Story<'_>) -> String {
    let kind = story.byte();
    match kind % 4 {
        0 => String::from_utf8_lossy(story.bytes(usize::from(kind) / 16)).replace(SECRET, ""),
        1 => format!(
            "{}{}",
            1_u64 << (story.byte() % 64),
            ["", "B", "KiB", "MiB", "ms", "d"][usize::from(kind / 4) % 6]
        ),
        _ => VALUES[usize::from(story.byte()) % VALUES.len()].to_owned(),
    }
}

fn topic(story: &mut Story<'_>, lists: &mut String) {
    let name = NAMES[usize::from(story.byte()) % NAMES.len()];
    let kind = ["memory", "log", "live", "none"][usize::from(story.byte() % 16 / 5)];
    write!(lists, "[[topic]]\nname = {}\nkind = {}\n", quoted(name), quoted(kind)).expect("text");
    let there = story.byte();
    let fields = ["partitions", "retention_bytes", "overflow", "durability", "retention_ms", "segment_bytes"];
    let good = [
        &["1", "2", "64"][..],
        &["1MiB", "16MiB", "3GiB"],
        &["block", "reject"],
        &["durable", "written"],
        &["7d", "none", "1500"],
        &["4MiB", "1GiB", "16777217"],
    ];
    for (bit, (field, good)) in
        fields.into_iter().zip(good).enumerate().filter(|(bit, _)| there >> bit & 1 == 1)
    {
        let text = if there & 128 == 0 { good[bit % good.len()].to_owned() } else { value(story) };
        let text = if there & 64 == 0 { quoted(&text) } else { text };
        writeln!(lists, "{field} = {text}").expect("text");
    }
}

fn tenant(story: &mut Story<'_>, lists: &mut String) {
    let name = NAMES[usize::from(story.byte()) % NAMES.len()];
    let tokens: Vec<_> = (0..story.byte() % 3).map(|_| quoted(&secret(story))).collect();
    let rule = |story: &mut Story<'_>| {
        let prefix = quoted(NAMES[usize::from(story.byte()) % NAMES.len()]);
        let verbs = ["\"publish\"", "\"subscribe\", \"admin\"", "\"publish\", \"publish\"", ""];
        format!("{{ prefix = {prefix}, verbs = [{}] }}", verbs[usize::from(story.byte() % 16 / 5)])
    };
    let rules: Vec<_> = (0..story.byte() % 3).map(|_| rule(story)).collect();
    write!(lists, "[[tenant]]\nname = {}\n", quoted(name)).expect("text");
    write!(lists, "token_sha256 = [{}]\nrules = [{}]\n", tokens.join(", "), rules.join(", ")).expect("text");
}

/// A text as TOML has it between quotation marks.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => write!(out, "\\u{:04X}", u32::from(letter)).expect("text"),
            letter => out.push(letter),
        }
    }
    out + "\""
}
