//! How many bytes the real program copies, by its own counters: next to none of a live topic's, each one once of a
//! memory topic's. And not by its own counters alone: callgrind counts the instructions that copy.

#[path = "support/load.rs"]
mod load;
mod support;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use load::{Batches, Load, keep_awake};
use support::{Server, binary, free_address, http, wait_for};

const KIB: usize = 1024;
const MIB: u64 = 1024 * 1024;
const BATCHES_16K: Batches = Batches { frame_bytes: 16 * KIB, record_bytes: 256 };
const BATCHES_64K: Batches = Batches { frame_bytes: 64 * KIB, record_bytes: 256 };

/// A server with one shard and the topic `t` of this kind.
fn server(kind: &str, args: &[&str]) -> Server {
    let mut all = vec!["--shards", "1", "--congestion-control", load::unpaced()];
    all.extend(args);
    let server = Server::start(&all);
    let spec = format!(r#"{{"name":"t","partitions":1,"kind":"{kind}"}}"#);
    assert_eq!(http(server.admin, "POST", "/v1/topics", &spec).expect("an answer").0, 201);
    server
}

/// Copied bytes by reason, when the load has come to rest; `accepted` are the bytes it has sent.
struct Copied {
    accepted: f64,
    retain: f64,
    others: f64,
}

impl Copied {
    fn read(server: &Server, what: &str) -> Copied {
        let accepted = server.metric("uringest_accepted_bytes_total");
        let all = server.metric("uringest_copied_bytes_total");
        let retain = server.metric(r#"uringest_copied_bytes_total{shard="0",reason="retain"}"#);
        let copied = Copied { accepted, retain, others: all - retain };
        println!(
            "{what}: {:.0} MiB accepted, retained {:.3} %, other copies {:.3} %",
            accepted / MIB as f64,
            100.0 * retain / accepted,
            100.0 * copied.others / accepted
        );
        let telling = [
            "uringest_copied_bytes_total{",
            "uringest_promotions_",
            "uringest_demotions_",
            "uringest_bulk_reads",
            "uringest_receive_no_buffers",
            "uringest_batches_refused",
        ];
        for line in server.page("/metrics").lines() {
            if telling.iter().any(|begins| line.starts_with(begins)) && !line.ends_with(" 0") {
                println!("  {line}");
            }
        }
        copied
    }
}

/// Sends about this many bytes from so many producers to one consumer, and says what was copied.
fn copied(kind: &str, producers: usize, batches: Batches, bytes: u64, args: &[&str]) -> Copied {
    let server = server(kind, args);
    let mut load = Load::new(server.data, "t", batches);
    load.consume(1).produce(producers);
    load.run(bytes / load.frame_bytes());
    let sent = load.acknowledged() * load.frame_bytes();
    wait_for("the counters", || {
        (server.metric("uringest_accepted_bytes_total") >= sent as f64).then_some(())
    });
    let what = format!("{kind}, {producers} producers, {} KiB, {args:?}", batches.frame_bytes / KIB);
    let copied = Copied::read(&server, &what);
    assert!((copied.accepted - sent as f64).abs() < 0.5, "{what}: {} of {sent}", copied.accepted);
    copied
}

#[test]
fn live_copies_nothing_of_bulk_connections() {
    for batches in [BATCHES_16K, BATCHES_64K] {
        for producers in [1, 4] {
            let copied = copied("live", producers, batches, 192 * MIB, &[]);
            assert!(copied.others < 0.01 * copied.accepted, "under 1 %");
            assert!(copied.retain < 0.5, "a live topic retains nothing");
        }
    }
}

#[test]
fn live_copies_little_of_many_connections() {
    let connections = std::env::var("URINGEST_TEST_CONNECTIONS").ok();
    let connections = connections.map_or(200, |text| text.parse().expect("a number of connections"));
    let copied = copied("live", connections, BATCHES_16K, 128 * MIB, &[]);
    assert!(copied.others < 0.08 * copied.accepted, "under 8 %");
}

#[test]
fn memory_copies_every_byte_once() {
    for (producers, batches) in [(1, BATCHES_16K), (4, BATCHES_64K)] {
        let copied = copied("memory", producers, batches, 128 * MIB, &[]);
        assert!((copied.retain - copied.accepted).abs() < 0.5, "each byte, once");
        assert!(copied.others < 0.01 * copied.accepted, "under 1 %");
    }
}

#[cfg(feature = "epoll")]
#[test]
fn epoll_copies_no_more_than_io_uring() {
    let epoll = ["--io", "epoll"];
    let live = copied("live", 4, BATCHES_64K, 192 * MIB, &epoll);
    assert!(live.others < 0.01 * live.accepted && live.retain < 0.5, "under 1 %, and nothing retained");
    let many = copied("live", 200, BATCHES_16K, 128 * MIB, &epoll);
    assert!(many.others < 0.08 * many.accepted, "under 8 %");
    let memory = copied("memory", 4, BATCHES_16K, 128 * MIB, &epoll);
    assert!((memory.retain - memory.accepted).abs() < 0.5, "each byte, once");
    assert!(memory.others < 0.01 * memory.accepted, "under 1 %");
}

/// A server under callgrind, which collects inside the shard's tick alone.
///
/// While a thread waits in io_uring_enter, valgrind 3.19 lets no other thread run: the shard would keep control from
/// working. So the shard is kept awake by pings from its start to its end, and threads take turns (`--fair-sched`).
struct Profiled {
    child: Child,
    data: SocketAddr,
    admin: SocketAddr,
}

impl Profiled {
    /// `Err` says why it cannot be done here.
    fn start(directory: &Path, kind: &str) -> Result<Profiled, String> {
        let (data, admin) = (free_address(), free_address());
        let config = directory.join("uringest.toml");
        let topic = format!("[[topic]]\nname = \"t\"\npartitions = 1\nkind = \"{kind}\"\n");
        std::fs::write(&config, topic).expect("a file");
        let log = std::fs::File::create(directory.join("log")).expect("a file");
        let mut command = Command::new("valgrind");
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("URINGEST_"))
        {
            command.env_remove(name);
        }
        let child = command
            .args(["--tool=callgrind", "--fair-sched=yes", "--toggle-collect=*Shard*::tick*"])
            .arg(format!("--callgrind-out-file={}", directory.join("callgrind").display()))
            .arg(binary())
            .args(["serve", "--shards", "1", "--congestion-control", load::unpaced()])
            .args(["--listen", &data.to_string(), "--admin", &admin.to_string()])
            .arg("--config")
            .arg(config)
            .arg("--data")
            .arg(directory.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("valgrind does not start ({error}): install it"))?;
        Ok(Profiled { child, data, admin })
    }

    fn ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of this process").is_some()
    }
}

impl Drop for Profiled {
    fn drop(&mut self) {
        let _ = self.child.kill(); // by its id; it has ended unless something failed
        let _ = self.child.wait();
    }
}

/// Instructions of all functions whose name says that they copy, from callgrind's profile.
fn copying_instructions(profile: &Path) -> u64 {
    let annotated = Command::new("callgrind_annotate")
        .args(["--threshold=100", "--auto=no"])
        .arg(profile)
        .output()
        .expect("callgrind_annotate comes with valgrind");
    let text = String::from_utf8_lossy(&annotated.stdout);
    let copies = |line: &&str| ["memcpy", "memmove", "mempcpy"].iter().any(|name| line.contains(name));
    let instructions = text.lines().filter(copies).filter_map(|line| {
        println!("  {}", line.trim());
        line.split_whitespace().next()?.replace(',', "").parse::<u64>().ok()
    });
    instructions.sum()
}

/// Instructions that copy for each byte that is ingested, and delivered to one consumer.
fn instructions_per_byte(kind: &str, bytes: u64) -> Result<f64, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = Profiled::start(directory.path(), kind)?;
    wait_for("the port", || (server.ended() || TcpStream::connect(server.data).is_ok()).then_some(()));
    if server.ended() {
        let log = std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        assert!(log.contains("io_uring"), "the server does not run under valgrind:\n{log}");
        return Err(format!("no io_uring under this valgrind:\n{log}"));
    }
    let stop = AtomicBool::new(false);
    let (address, admin) = (server.data, server.admin);
    let sent = std::thread::scope(|scope| {
        scope.spawn(|| keep_awake(address, &stop));
        wait_for("the server", || matches!(http(admin, "GET", "/readyz", ""), Ok((200, _))).then_some(()));
        let mut load = Load::new(address, "t", BATCHES_64K);
        load.consume(1).produce(1);
        load.run(bytes / load.frame_bytes());
        let sent = load.acknowledged() * load.frame_bytes();
        drop(load);
        let status = Command::new("kill").args(["-TERM", &server.child.id().to_string()]).status();
        assert!(status.expect("kill").success());
        wait_for("the end", || server.ended().then_some(()));
        stop.store(true, Ordering::Relaxed);
        sent
    });
    let instructions = copying_instructions(&directory.path().join("callgrind"));
    let per_byte = instructions as f64 / sent as f64;
    println!("{kind}: {instructions} instructions copy, for {sent} bytes: {per_byte:.4} a byte");
    Ok(per_byte)
}

#[test]
fn callgrind_finds_no_copy_of_live_payload() {
    const BYTES: u64 = 32 * MIB;
    match instructions_per_byte("live", BYTES) {
        Err(why) => println!("SKIPPED: {why}"),
        Ok(live) => {
            // The same with one copy, which shows that a copy would be seen.
            let memory = instructions_per_byte("memory", BYTES).expect("as before");
            let one_copy = memory - live;
            assert!(
                live < one_copy / 2.0,
                "{live:.4} instructions a byte, where one copy takes {one_copy:.4}"
            );
        }
    }
}
