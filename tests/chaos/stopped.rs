//! Processes stand still (SIGSTOP) and go on (SIGCONT): the server, a consumer, a producer.

use std::time::{Duration, Instant};

use crate::harness::{Figures, Skipped};
use crate::load::{Load, here, is_ready};
use crate::rig::{
    Case, Program, assert_each_once, create, describe, lines, metric, offsets, publish, wait_for_metric,
};
use crate::support::{Server, wait_for};

/// In which everything goes on.
const RECOVERS: Duration = Duration::from_secs(10);

/// Lets a stopped server go on, also when the case fails: nobody could end in good order otherwise.
struct Standing<'a>(&'a Server);

impl<'a> Standing<'a> {
    fn still(server: &'a Server) -> Standing<'a> {
        server.signal("STOP");
        Standing(server)
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.0.signal("CONT");
    }
}

fn loaded(case: &Case, args: &[&str]) -> (Server, Load) {
    let server = case.start(&[&["--shards", "2"], args].concat());
    let load = Load::of_both_kinds(&server, &here);
    (server, load)
}

/// The server stands still twice, for less than any time-out.
/// What must hold: nobody loses the connection for it, and everything acknowledged is there once, in its order.
pub fn the_server(case: &Case) -> Result<Figures, Skipped> {
    let (server, load) = loaded(case, &[]);
    let handshakes = metric(&server, "uringest_handshakes_total");
    let mut recovery = Duration::ZERO;
    for still in [300, 1_500] {
        let standing = Standing::still(&server);
        load.go_on(Duration::from_millis(still));
        drop(standing);
        recovery = recovery.max(load.recovers(RECOVERS));
        is_ready(&server);
    }
    let figures = load.finish(recovery);
    let reconnects = metric(&server, "uringest_handshakes_total") - handshakes;
    assert!(reconnects < 0.5, "{reconnects} connections did not outlive a pause");
    Ok(figures)
}

/// The server stands still for longer than its own time-outs, in the middle of frames.
/// What must hold: connections may go, records may not; whoever is cut off comes again and is not stored twice.
pub fn beyond_time_outs(case: &Case) -> Result<Figures, Skipped> {
    let (server, load) =
        loaded(case, &["--limits-idle-timeout-ms", "1s", "--limits-frame-timeout-ms", "100ms"]);
    let handshakes = metric(&server, "uringest_handshakes_total");
    let mut recovery = Duration::ZERO;
    for _ in 0..2 {
        let standing = Standing::still(&server);
        load.go_on(Duration::from_millis(1_500));
        drop(standing);
        recovery = recovery.max(load.recovers(RECOVERS));
        is_ready(&server);
    }
    let figures = load.finish(recovery);
    let reconnects = metric(&server, "uringest_handshakes_total") - handshakes;
    Ok(figures.note("reconnects", reconnects))
}

/// A consumer stands still, of a topic in memory that waits for it, and of a log.
/// What must hold: the topic in memory holds its producers back, with the consumer named as the cause, while other topics
/// go on; the log's producers are not held back; when it goes on it gets everything, once and in order.
pub fn a_consumer(case: &Case) -> Result<Figures, Skipped> {
    const LINES: u64 = 60_000;
    let server = case.start(&["--shards", "2"]);
    create(&server, "waits", &["--kind", "memory", "--overflow", "block", "--retention-bytes", "1MiB"]);
    create(&server, "log", &["--kind", "log"]);
    let url = server.url();
    let mut stopped: Vec<Program> = ["waits", "log"]
        .iter()
        .map(|topic| Program::attached(&server, topic, &["--name", "stopped", "--from", "earliest"]))
        .collect();
    stopped.iter().for_each(|consumer| consumer.signal("STOP"));
    let begun = Instant::now();
    let long =
        || -> Vec<u8> { (1..=LINES).flat_map(|number| format!("{number:.<200}\n").into_bytes()).collect() };
    let mut held = Program::fed(&["pub", "waits", "--server", &url], long());
    // The log takes everything, and more than its ring has.
    let mut free = Program::fed(&["pub", "log", "--ack", "written", "--server", &url], long());
    assert_eq!(free.wait(), Some(0), "{}", free.err());
    let end = |topic: &str| offsets(&server, topic).1;
    let mut last = end("waits");
    wait_for("the producer to be held back", || {
        publish(&server, "other", 1..=1_000, &[]);
        let before = std::mem::replace(&mut last, end("waits"));
        (before == last && last > 0).then_some(())
    });
    assert!(last < LINES && !held.has_ended(), "{last} were taken");
    let consumer = describe(&server, "waits")["partitions"][0]["consumers"][0].clone();
    let named =
        consumer["name"] == "stopped" && (consumer["cause"] == "socket" || consumer["cause"] == "credit");
    assert!(named && consumer["lag_records"].as_u64() > Some(0), "{consumer}");
    is_ready(&server);
    let stall = begun.elapsed();
    let begun = Instant::now();
    stopped.iter().for_each(|consumer| consumer.signal("CONT"));
    assert_eq!(held.wait(), Some(0), "{}", held.err());
    stopped.iter().for_each(|consumer| consumer.wait_lines(usize::try_from(LINES).expect("few")));
    let recovery = begun.elapsed();
    assert!(recovery < 3 * RECOVERS, "{recovery:?}");
    for consumer in &mut stopped {
        assert_each_once(&consumer.stop(), 1..=LINES);
    }
    let (acknowledged, delivered) = (2 * LINES, 2 * LINES);
    let figures = Figures { acknowledged, delivered, stall, recovery, ..Figures::default() };
    Ok(figures.note("held back at", last))
}

/// A producer stands still, again and again, wherever it is in a frame, for longer than the time-out of a frame; once for
/// longer than the server waits for a sign of life.
/// What must hold: others do not notice; the server lets go of it; when it goes on, every record is there once.
pub fn a_producer(case: &Case) -> Result<Figures, Skipped> {
    const LINES: u64 = 800_000;
    let server = case.start(&[
        "--shards",
        "2",
        "--limits-idle-timeout-ms",
        "1s",
        "--limits-frame-timeout-ms",
        "100ms",
    ]);
    create(&server, "log", &["--kind", "log"]);
    let url = server.url();
    let args = ["pub", "log", "--ack", "durable", "--batch-bytes", "512", "--server", &url];
    let mut producer = Program::fed(&args, lines(1..=LINES));
    wait_for("its first records", || (offsets(&server, "log").1 > 0).then_some(()));
    let mut longest = Duration::ZERO;
    for still_ms in [150, 200, 250, 300, 2_500] {
        assert!(!producer.has_ended(), "it is in the middle of its work");
        producer.signal("STOP");
        let begun = Instant::now();
        publish(&server, "other", 1..=1_000, &[]);
        std::thread::sleep(Duration::from_millis(still_ms).saturating_sub(begun.elapsed()));
        if still_ms > 1_000 {
            // Nothing is heard of it: its time is up.
            wait_for_metric(&server, "uringest_open_connections", 0.0);
        }
        producer.signal("CONT");
        longest = longest.max(begun.elapsed());
        std::thread::park_timeout(Duration::from_millis(30));
    }
    let begun = Instant::now();
    assert_eq!(producer.wait(), Some(0), "{}", producer.err());
    let recovery = begun.elapsed();
    let count = LINES.to_string();
    let mut reader =
        Program::start(&["sub", "log", "--from", "earliest", "--count", &count, "--server", &url]);
    let got = reader.numbers();
    assert_each_once(&got, 1..=LINES);
    assert_eq!(offsets(&server, "log"), (0, LINES), "nothing is stored twice");
    let figures =
        Figures { acknowledged: LINES, delivered: LINES, stall: longest, recovery, ..Figures::default() };
    Ok(figures)
}
