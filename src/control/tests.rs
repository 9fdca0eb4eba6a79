//! Control over the admin API, with threads that answer commands in the shards' place.

use std::collections::BTreeMap;
use std::io::{PipeReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::{Value, json};

use super::registry::{Registry, make_rings};
use super::storage::start::{LogError, open_storage};
use super::*;
use crate::access::TokenHash;
use crate::ids::{RegionId, TopicId};
use crate::io::choice::{BUILT, Chosen};
use crate::io::host;
use crate::limits::MESH_RING_MESSAGES;
use crate::partition::PartitionStatus;
use crate::shard::messages::LogCommand;
use crate::topic::Topic;

mod certificates;
mod logs;

const SHARDS: u16 = 3;

/// What a test may do to a shard.
#[derive(Debug)]
enum Poke {
    Report(Report),
    /// Say nothing more to commands.
    Mute,
    /// Say all there is to say, and do not end.
    Stay,
    /// End with an error.
    Fail,
}

/// What a shard was told, for tests to look at.
#[derive(Debug)]
enum Seen {
    Refused(String, Code),
    ServerPaused(bool),
    Access(bool),
    Added(String),
    /// The names of all certificates.
    Tls(Vec<String>),
    Log(LogCommand),
}

/// Stands for a shard: keeps topics and answers.
struct Fake {
    id: ShardId,
    mesh: MeshEnd<Message>,
    wake: PipeReader,
    control: File,
    pokes: std_mpsc::Receiver<Poke>,
    seen: std_mpsc::Sender<Seen>,
    topics: BTreeMap<TopicId, (Arc<Topic>, bool)>,
    ends: BTreeMap<PartitionId, u64>,
    leftover: u64,
    mute: bool,
    stays: bool,
}

impl Fake {
    fn run(mut self) -> Result<(), IoFatal> {
        loop {
            while let Some((_from, message)) = self.mesh.receive() {
                let Message::Command(command) = message else { panic!("control sends commands") };
                if matches!(*command, Command::Stop) {
                    if self.stays {
                        // Until the test has ended.
                        let _ = self.pokes.recv();
                    }
                    return Ok(());
                }
                // What the test did before it caused the command comes first.
                self.poked()?;
                if !self.mute {
                    self.command(*command);
                }
            }
            self.poked()?;
            if self.mesh.about_to_sleep() {
                // Woken by control or by the test.
                self.wake.read_exact(&mut [0; 8]).expect("a pipe");
                self.mesh.awake();
            }
        }
    }

    fn poked(&mut self) -> Result<(), IoFatal> {
        for poke in self.pokes.try_iter().collect::<Vec<_>>() {
            match poke {
                Poke::Report(report) => {
                    if let Report::LogEnds { ends, .. } = &report {
                        self.ends.extend(ends.iter().copied());
                    }
                    self.report(report);
                }
                Poke::Mute => self.mute = true,
                Poke::Stay => self.stays = true,
                Poke::Fail => {
                    return Err(IoFatal { doing: "a test", source: std::io::ErrorKind::Other.into() });
                }
            }
        }
        Ok(())
    }

    fn command(&mut self, command: Command) {
        let shard = self.id;
        match command {
            Command::AddTopic { ticket, topic } => {
                let own = topic.partitions.iter().filter(|partition| partition.shard == shard);
                self.ends.extend(own.map(|partition| (partition.id, partition.first_offset)));
                self.seen.send(Seen::Added(topic.name.clone())).expect("the test listens");
                self.topics.insert(topic.id, (topic, false));
                self.report(Report::Done { ticket, shard });
            }
            Command::Log(command) => self.seen.send(Seen::Log(command)).expect("the test listens"),
            Command::TopicReady { topic } => {
                assert!(self.topics.contains_key(&topic), "a topic is ready once every shard knows it");
            }
            Command::TopicsTold => {}
            Command::RemoveTopic { ticket, topic } => {
                self.topics.remove(&topic);
                self.report(Report::Done { ticket, shard });
            }
            Command::PauseTopic { ticket, topic, paused } => {
                self.topics.get_mut(&topic).expect("a known topic").1 = paused;
                self.report(Report::Done { ticket, shard });
            }
            Command::Describe { ticket, topic } => {
                let partitions = self.describe(topic);
                self.report(Report::Described { ticket, shard, partitions });
            }
            Command::TopicRefused { name, code } => {
                self.seen.send(Seen::Refused(name, code)).expect("the test listens");
            }
            Command::PauseServer { paused } => {
                self.seen.send(Seen::ServerPaused(paused)).expect("the test listens");
            }
            Command::Access(access) => {
                self.seen.send(Seen::Access(access.is_open())).expect("the test listens");
            }
            Command::Tls(tls) => {
                self.seen.send(Seen::Tls(tls.names().to_vec())).expect("the test listens");
            }
            Command::Drain { deadline_ns } => {
                assert!(deadline_ns > host::monotonic_ns());
                let ends = self.ends.iter().map(|(id, end)| (*id, *end)).collect();
                self.report(Report::LogEnds { shard, ends });
                self.report(Report::Drained { shard, leftover: self.leftover, settled: true });
            }
            Command::Stop => unreachable!("handled by the caller"),
        }
    }

    fn describe(&self, topic: TopicId) -> Vec<PartitionStatus> {
        let Some((topic, _)) = self.topics.get(&topic) else { return Vec::new() };
        let own = topic.partitions.iter().filter(|partition| partition.shard == self.id);
        let status = own.map(|partition| PartitionStatus {
            partition_id: partition.id.0,
            id: 0,
            log_start_offset: partition.first_offset,
            log_end_offset: self.ends[&partition.id],
            shard: self.id.0,
            bytes: 0,
            dropped_records: 0,
            consumers: Vec::new(),
            committed: partition.committed.clone(),
        });
        status.collect()
    }

    fn report(&mut self, report: Report) {
        let control = self.mesh.control();
        let needed = self.mesh.send(control, Message::Report(Box::new(report))).expect("control reads");
        if needed.0 {
            self.control.write_all(&1u64.to_ne_bytes()).expect("an eventfd");
        }
    }
}

/// A running control with its fakes.
struct Rig {
    admin: SocketAddr,
    stop: Arc<Notify>,
    pokes: Vec<(std_mpsc::Sender<Poke>, Arc<OwnedFd>)>,
    seen: Vec<std_mpsc::Receiver<Seen>>,
    control: JoinHandle<u8>,
    ready: Result<(), String>,
}

impl Rig {
    fn start(directory: &Path, config: Config, leftover: u64) -> Rig {
        Rig::start_from(directory, config, leftover, None)
    }

    fn start_from(directory: &Path, config: Config, leftover: u64, sources: Option<Sources>) -> Rig {
        let data = DataDir::open(directory).expect("a directory");
        let mut catalogue = data.load().expect("a catalogue");
        let here = Config { data: directory.to_owned(), shards: SHARDS, ..config.clone() };
        let mut opened = open_storage(&here, &mut catalogue, None).expect("a log");
        let mut registry = Registry::new(catalogue, SHARDS, RegionId(100));
        let begins = registry.catalogue.begin();
        futures_now(data.save(&Disk::Blocking, &registry.catalogue)).expect("saved");
        for index in 0..registry.catalogue.topics.len() {
            let entry = &registry.catalogue.topics[index];
            let own = |id: PartitionId| entry.partitions.iter().any(|partition| partition.id == id.0);
            let begins: Vec<_> = begins.iter().copied().filter(|(id, _)| own(*id)).collect();
            let rings = make_rings(begins.len(), entry.ring_bytes, false).expect("memory");
            registry.bring_up(index, &begins, rings, &mut opened.logs);
        }
        let event = host::event().expect("an eventfd");
        let (ended_sender, ended) = mpsc::unbounded_channel();
        let mut mesh = MeshEnd::build(usize::from(SHARDS) + 1, MESH_RING_MESSAGES);
        let control_mesh = mesh.pop().expect("control's end");
        let (mut pokes, mut seen, mut wakes) = (Vec::new(), Vec::new(), Vec::new());
        for (id, mesh) in shard_ids(SHARDS.into()).zip(mesh) {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            let writer = Arc::new(OwnedFd::from(writer));
            wakes.push(WakeHandle { event: Some(Arc::clone(&writer)), ring_fd: -1 });
            let (poke, poked) = std_mpsc::channel();
            let (see, seen_here) = std_mpsc::channel();
            pokes.push((poke, writer));
            seen.push(seen_here);
            let fake = Fake {
                id,
                mesh,
                wake: reader,
                control: File::from(event.try_clone().expect("a descriptor")),
                pokes: poked,
                seen: see,
                topics: BTreeMap::new(),
                ends: BTreeMap::new(),
                leftover: if id.0 == 0 { leftover } else { 0 },
                mute: false,
                stays: false,
            };
            let ended = ended_sender.clone();
            std::thread::spawn(move || {
                let result = fake.run();
                let _ = ended.send(ShardEnd { shard: id, result });
            });
        }
        let admin = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let admin_address = admin.local_addr().expect("an address");
        let stop = Arc::new(Notify::new());
        let spec = ControlSpec {
            config: config.clone(),
            sources,
            signals: false,
            data,
            registry,
            storage: opened.storage,
            mesh: control_mesh,
            wakes,
            event,
            counters: (0..SHARDS).map(|_| Arc::new(CounterPage::new())).collect(),
            lifecycle: Arc::new(Lifecycle::new()),
            io: Chosen::after(BUILT, &[]).expect("there is a backend"),
            capabilities: Vec::new(),
            degraded: vec![Degraded { key: "for_a_test", detail: "nothing".into() }],
            memory: MemoryPlan::default(),
            certificates: config.tls.server().map(|settings| Reloader::new(settings).expect("certificates")),
            data_address: admin_address,
            plaintext_address: None,
            admin,
            admin_address,
            stop: Arc::clone(&stop),
            release: Box::new(|| ()),
            ended,
        };
        let (ready_sender, ready) = std_mpsc::channel();
        let control =
            std::thread::spawn(move || run(spec, move |ready| ready_sender.send(ready).expect("heard")));
        let ready = ready.recv_timeout(Duration::from_secs(60)).expect("ready or not");
        Rig { admin: admin_address, stop, pokes, seen, control, ready }
    }

    fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.call_with(method, path, body, "")
    }

    fn call_with(&self, method: &str, path: &str, body: &str, headers: &str) -> (u16, Value) {
        let (status, body) = self.raw(method, path, body, headers);
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    fn raw(&self, method: &str, path: &str, body: &str, headers: &str) -> (u16, String) {
        ask(self.admin, method, path, body, headers)
    }

    fn poke(&self, shard: usize, poke: Poke) {
        let (sender, wake) = &self.pokes[shard];
        sender.send(poke).expect("the shard lives");
        let mut wake = File::from(wake.try_clone().expect("a descriptor"));
        wake.write_all(&1u64.to_ne_bytes()).expect("a pipe");
    }

    fn seen(&self, shard: usize) -> Seen {
        self.seen[shard].recv_timeout(Duration::from_secs(60)).expect("the shard was told")
    }

    /// Asks until the answer is as wanted.
    fn until(&self, path: &str, wanted: impl Fn(u16, &Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (status, value) = self.call("GET", path, "");
            if wanted(status, &value) {
                return;
            }
            assert!(Instant::now() < deadline, "{path}: {status} {value}");
        }
    }

    fn stop(self) -> u8 {
        self.stop.notify_one();
        self.control.join().expect("control does not panic")
    }
}

/// One request and its answer.
fn ask(admin: SocketAddr, method: &str, path: &str, body: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
    .expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
}

/// A future that is never pending.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn small() -> Config {
    let mut config = Config::default();
    config.memory.retention_budget_bytes = 16 << 20;
    config.topics.retention_bytes = 1 << 20;
    config.memory.huge_pages = false;
    config.drain_deadline_ms = 500;
    config
}

fn catalogue_file(directory: &Path) -> Value {
    let bytes = std::fs::read(directory.join("catalogue.json")).expect("a catalogue");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn topics_over_the_admin_api() {
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(directory.path(), small(), 0);
    assert_eq!(rig.ready, Ok(()));
    assert_eq!(rig.call("GET", "/v1/topics", ""), (200, json!({ "topics": [] })));
    let body = r#"{"name":"a/b","partitions":4}"#;
    let (status, made) = rig.call("POST", "/v1/topics", body);
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["partitions"].as_array().map(Vec::len), Some(4));
    let numbers: Vec<_> = (0..4).map(|number| json!(number)).collect();
    let ids: Vec<_> =
        made["partitions"].as_array().into_iter().flatten().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, numbers);
    assert_eq!(made["partitions"][1]["shard"], json!(2 % SHARDS));
    assert_eq!(rig.call("POST", "/v1/topics", body), (200, made.clone()));
    let (status, error) = rig.call("POST", "/v1/topics", r#"{"name":"a/b","partitions":5}"#);
    assert_eq!((status, &error["error"]["code"]), (409, &json!("topic_differs")));
    assert_eq!(rig.call("GET", "/v1/topics/a%2Fb", ""), (200, made));
    assert_eq!(rig.call("POST", "/v1/topics/a%2Fb/pause", "").0, 200);
    assert_eq!(rig.call("GET", "/v1/topics/a%2fb", "").1["paused"], json!(true));
    assert_eq!(catalogue_file(directory.path())["catalogue"]["topics"][0]["paused"], json!(true));
    assert_eq!(rig.call("POST", "/v1/topics/a%2Fb/resume", "").0, 200);
    let (status, listed) = rig.call("GET", "/v1/topics", "");
    assert_eq!((status, &listed["topics"][0]["partitions"]), (200, &json!(4)));
    let (status, error) = rig.call("POST", "/v1/topics", r#"{"name":"big","partitions":13}"#);
    assert_eq!((status, &error["error"]["code"]), (507, &json!("memory_exhausted")), "{error}");
    // What was deleted makes room.
    assert_eq!(rig.call("DELETE", "/v1/topics/a%2Fb", "").0, 200);
    assert_eq!(rig.call("POST", "/v1/topics", r#"{"name":"big","partitions":16}"#).0, 201);
    for (method, path, body, status, code) in [
        ("GET", "/v1/topics/none", "", 404, "unknown_topic"),
        ("DELETE", "/v1/topics/none", "", 404, "unknown_topic"),
        ("POST", "/v1/topics/none/pause", "", 404, "unknown_topic"),
        ("POST", "/v1/topics", "{", 400, "bad_request"),
        ("POST", "/v1/topics", r#"{"name":"x","unknown":1}"#, 400, "bad_request"),
        ("POST", "/v1/topics", r#"{"name":"x y"}"#, 400, "bad_name"),
        ("POST", "/v1/topics", r#"{"name":"x","partitions":0}"#, 400, "bad_topic"),
        ("DELETE", "/v1/topics", "", 405, "method_not_allowed"),
        ("GET", "/v1/server/drain", "", 405, "method_not_allowed"),
        ("GET", "/v1/other", "", 404, "not_found"),
        ("GET", "/%zz", "", 400, "bad_request"),
    ] {
        let (got, error) = rig.call(method, path, body);
        assert_eq!((got, &error["error"]["code"]), (status, &json!(code)), "{method} {path} {body}");
    }
    assert_eq!(rig.stop(), exit::CLEAN);
}

#[test]
fn health_status_and_pages() {
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(directory.path(), small(), 0);
    assert_eq!(rig.raw("GET", "/livez", "", ""), (200, "ok\n".to_owned()));
    let (status, ready) = rig.call("GET", "/readyz", "");
    assert_eq!((status, &ready["ready"], &ready["state"]), (200, &json!(true), &json!("running")));
    assert!(ready["degraded"].as_array().is_some_and(|all| all.iter().any(|one| one["key"] == "for_a_test")));
    let (status, page) = rig.raw("GET", "/metrics", "", "");
    assert!(status == 200 && page.ends_with("# EOF\n"), "{page}");
    let (status, server) = rig.call("GET", "/v1/server", "");
    assert_eq!((status, &server["state"]), (200, &json!("running")));
    rig.call("POST", "/v1/topics", r#"{"name":"a"}"#);
    let (status, snapshot) = rig.call("GET", "/v1/snapshot", "");
    assert_eq!((status, &snapshot["topics"][0]["name"]), (200, &json!("a")));
    assert_eq!(rig.call("POST", "/v1/server/pause", "").0, 200);
    for shard in 0..usize::from(SHARDS) {
        assert!(matches!(rig.seen(shard), Seen::Added(name) if name == "a"));
        assert!(matches!(rig.seen(shard), Seen::ServerPaused(true)));
    }
    assert_eq!(rig.call("GET", "/readyz", "").0, 503);
    assert_eq!(rig.call("POST", "/v1/server/resume", "").0, 200);
    assert_eq!(rig.call("GET", "/readyz", "").0, 200);
    assert_eq!(rig.call("POST", "/v1/server/drain", "").0, 202);
    assert_eq!(rig.control.join().expect("no panic"), exit::CLEAN);
}

#[test]
fn the_admin_token_is_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = small();
    config.access.admin_token_sha256 = Some(TokenHash::of("s3cret"));
    let rig = Rig::start(directory.path(), config, 0);
    assert_eq!(rig.raw("GET", "/livez", "", "").0, 200);
    assert_eq!(rig.raw("GET", "/readyz", "", "").0, 200);
    for headers in ["", "authorization: Bearer wrong\r\n", "authorization: Basic s3cret\r\n"] {
        for path in ["/metrics", "/v1/topics", "/v1/server", "/none"] {
            assert_eq!(rig.call_with("GET", path, "", headers).0, 401, "{path} {headers}");
        }
        assert_eq!(rig.call_with("POST", "/v1/server/drain", "", headers).0, 401);
    }
    let token = "authorization: Bearer s3cret\r\n";
    assert_eq!(rig.call_with("GET", "/v1/topics", "", token).0, 200);
    let from_page = format!("{token}origin: http://example.org\r\n");
    assert_eq!(rig.call_with("POST", "/v1/server/drain", "", &from_page).0, 403);
    assert_eq!(rig.stop(), exit::CLEAN);
}

#[test]
fn clients_make_topics_by_policy() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = small();
    config.topics.auto_create_kind = crate::topic::TopicKind::Live;
    config.memory.retention_budget_bytes = 4 << 20;
    let rig = Rig::start(directory.path(), config, 0);
    let want = |name: &str, partition| {
        Poke::Report(Report::WantTopic { shard: ShardId(1), name: name.into(), partition })
    };
    rig.poke(1, want("wanted", 0));
    for shard in 0..usize::from(SHARDS) {
        assert!(matches!(rig.seen(shard), Seen::Added(name) if name == "wanted"));
    }
    assert_eq!(rig.call("GET", "/v1/topics/wanted", "").1["kind"], json!("live"));
    rig.poke(1, want("wanted-more", 7));
    assert!(matches!(rig.seen(1), Seen::Refused(_, Code::UnknownPartition)));
    rig.poke(1, want("no room", 0));
    assert!(matches!(rig.seen(1), Seen::Refused(_, Code::BadName)));
    rig.poke(1, want("no-room", 0));
    assert!(matches!(rig.seen(1), Seen::Refused(name, Code::MemoryExhausted) if name == "no-room"));
    assert_eq!(rig.stop(), exit::CLEAN);
    let mut config = small();
    config.topics.auto_create = false;
    let rig = Rig::start(directory.path(), config, 0);
    rig.poke(1, want("other", 0));
    assert!(matches!(rig.seen(1), Seen::Added(name) if name == "wanted"), "it is announced again");
    assert!(matches!(rig.seen(1), Seen::Refused(_, Code::UnknownTopic)));
    assert_eq!(rig.stop(), exit::CLEAN);
}

/// Offsets and commits after a clean stop and after a kill.
#[test]
fn offsets_and_commits_survive() {
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(directory.path(), small(), 0);
    rig.call("POST", "/v1/topics", r#"{"name":"a","partitions":1}"#);
    let id = PartitionId(1);
    let shard = usize::from(1 % SHARDS);
    let ends = vec![(id, 5_000)];
    rig.poke(shard, Poke::Report(Report::LogEnds { shard: ShardId(1), ends }));
    rig.poke(shard, Poke::Report(Report::Committed { partition: id, name: "who".into(), offset: 4_000 }));
    // The commit is saved without a stop.
    let deadline = Instant::now() + Duration::from_secs(60);
    let saved = || catalogue_file(directory.path())["catalogue"]["topics"][0]["partitions"][0].clone();
    while saved()["committed"]["who"] != json!(4_000) {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(saved()["clean_end"], Value::Null, "a running server has no clean end");
    let killed = std::fs::read(directory.path().join("catalogue.json")).expect("a file");
    assert_eq!(rig.stop(), exit::CLEAN);
    assert_eq!(saved()["clean_end"], json!(5_000));
    let rig = Rig::start(directory.path(), small(), 0);
    rig.until("/v1/topics/a", |status, _| status == 200);
    let partition = rig.call("GET", "/v1/topics/a", "").1["partitions"][0].clone();
    assert_eq!(
        (&partition["log_start_offset"], &partition["committed"]["who"]),
        (&json!(5_000), &json!(4_000))
    );
    assert_eq!(rig.stop(), exit::CLEAN);
    // As a kill would have left it.
    std::fs::write(directory.path().join("catalogue.json"), killed).expect("written");
    let rig = Rig::start(directory.path(), small(), 0);
    let partition = rig.call("GET", "/v1/topics/a", "").1["partitions"][0].clone();
    assert_eq!(partition["log_start_offset"], json!(catalogue::RESERVE_RECORDS));
    assert_eq!(rig.stop(), exit::CLEAN);
}

#[test]
fn a_drain_says_what_was_left() {
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(directory.path(), small(), 7);
    assert_eq!(rig.stop(), exit::LEFTOVER);
    let rig = Rig::start(directory.path(), small(), 0);
    rig.poke(2, Poke::Mute);
    assert_eq!(rig.stop(), exit::LEFTOVER, "a silent shard is not clean");
    let rig = Rig::start(directory.path(), small(), 0);
    rig.poke(1, Poke::Stay);
    assert_eq!(rig.stop(), exit::LEFTOVER, "nor is one that does not end");
}

#[test]
fn a_failed_shard_ends_the_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(directory.path(), small(), 0);
    rig.call("POST", "/v1/topics", r#"{"name":"a","partitions":3}"#);
    rig.poke(0, Poke::Fail);
    assert_eq!(rig.control.join().expect("no panic"), exit::FAILED);
    let partitions = &catalogue_file(directory.path())["catalogue"]["topics"][0]["partitions"];
    let clean: Vec<_> = (0..3).map(|number| partitions[number]["clean_end"] != Value::Null).collect();
    assert_eq!(clean, [true, true, false], "only the partitions of shards that stopped in order");
}

#[test]
fn a_shard_that_does_not_answer_costs_the_request_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(directory.path(), small(), 0);
    rig.call("POST", "/v1/topics", r#"{"name":"a"}"#);
    rig.poke(0, Poke::Mute);
    rig.until("/v1/topics/a", |status, value| status == 503 && value["error"]["code"] == "unavailable");
    assert_eq!(rig.raw("GET", "/livez", "", "").0, 200);
    assert_eq!(rig.stop(), exit::LEFTOVER);
}

#[test]
fn a_reload_is_whole_or_not_at_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("uringest.toml");
    std::fs::write(&file, "").expect("written");
    let sources = Sources { file: Some(file.clone()), ..Sources::default() };
    let config = crate::config::load(&sources).expect("valid").config;
    let rig = Rig::start_from(&directory.path().join("data"), config, 0, Some(sources));
    let reload = |headers: &str| rig.call_with("POST", "/v1/server/reload", "", headers);
    assert_eq!(reload(""), (200, json!({ "restart_needed": [] })));
    assert!(matches!(rig.seen(0), Seen::Access(true)), "no tenants: open to all");
    std::fs::write(&file, "drain_deadline_ms = 1\n").expect("written");
    let (status, error) = reload("");
    assert_eq!((status, &error["error"]["code"]), (409, &json!("reload_refused")), "{error}");
    let hash = |token: &str| TokenHash::of(token).to_hex();
    let text = format!(
        "drain_deadline_ms = 700\n[access]\nadmin_token_sha256 = \"{}\"\n[[tenant]]\nname = \"a\"\ntoken_sha256 = [\"{}\"]\n\
         rules = [{{ prefix = \"\", verbs = [\"publish\"] }}]\n",
        hash("admin"),
        hash("tenant")
    );
    std::fs::write(&file, text).expect("written");
    assert_eq!(reload(""), (200, json!({ "restart_needed": ["drain_deadline_ms"] })));
    assert!(matches!(rig.seen(0), Seen::Access(false)));
    assert_eq!(reload("").0, 401, "the token is asked for from now on");
    assert_eq!(reload("authorization: Bearer admin\r\n").0, 200);
    assert_eq!(rig.stop(), exit::CLEAN);
}

#[test]
fn a_directory_has_one_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = DataDir::open(directory.path()).expect("a directory");
    assert!(matches!(DataDir::open(directory.path()), Err(data::DataError::Locked { .. })));
    drop(first);
    let again = DataDir::open(directory.path()).expect("it is free again");
    std::fs::write(directory.path().join("catalogue.json"), b"{}").expect("written");
    assert!(matches!(again.load(), Err(data::DataError::Catalogue { .. })));
    assert_eq!(std::fs::read(directory.path().join("catalogue.json")).expect("read"), b"{}");
    std::fs::rename(directory.path().join("catalogue.json"), directory.path().join("catalogue.json.1"))
        .expect("renamed");
    assert!(matches!(again.load(), Err(data::DataError::Catalogue { .. })), "not an empty one");
    assert!(matches!(
        DataDir::open(&directory.path().join("catalogue.json.1")),
        Err(data::DataError::NotWritable { .. })
    ));
}
