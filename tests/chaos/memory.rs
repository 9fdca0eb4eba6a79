//! The memory of the server's control group runs out.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use crate::groups::{Controller, Group};
use crate::harness::{Figures, Skipped};
use crate::load::{ALL_LANES, LOG, Load, here, is_ready};
use crate::rig::{Case, create};
use crate::support::{http, wait_for};

/// In which everything goes on.
const RECOVERS: Duration = Duration::from_secs(10);
/// Small, so that a tight limit is met soon.
const SMALL: &[&str] =
    &["--shards", "1", "--topics-log-ring-bytes", "4MiB", "--storage-segment-bytes", "4MiB"];

/// The group has what the server took at its start and a little more, and the log goes through the page cache, which is
/// the group's too: the limit is met all the time.
/// What must hold: memory was decided at the start, so the server stays; the kernel takes the cache back, and all it
/// costs is time.
pub fn a_tight_group(case: &Case) -> Result<Figures, Skipped> {
    const MORE: u64 = 8 << 20;
    let group = Group::new(Controller::Memory)?;
    let directory = tempfile::tempdir().expect("a directory");
    let args = [SMALL, &["--storage-direct", "off"]].concat();
    let server = case.start_in_with(directory.path(), &args, |command| group.entered_by(command));
    create(&server, "log", &["--kind", "log"]);
    create(&server, "memory", &["--kind", "memory", "--retention-bytes", "4MiB"]);
    let load = Load::start(&server, ALL_LANES, &here);
    let limit = group.memory_bytes() + MORE;
    group.limit_memory(Some(limit));
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while group.limit_met() < 20 {
        assert!(std::time::Instant::now() < deadline, "the limit is not met: {}", group.memory_bytes());
        load.go_on(Duration::from_millis(100));
    }
    load.go_on(Duration::from_secs(1));
    is_ready(&server);
    assert_eq!(group.killed(), 0, "memory was decided at the start");
    let met = group.limit_met();
    group.limit_memory(None);
    let recovery = load.recovers(RECOVERS);
    Ok(load.finish(recovery).note("limit, MiB", limit >> 20).note("met", met))
}

/// More is asked of the server than its group has: a topic whose ring does not fit. The kernel kills it.
/// What must hold: what was acknowledged as written or durable is there after the next start, once and in order, and
/// producers and consumers go on by themselves.
pub fn more_than_the_group_has(case: &Case) -> Result<Figures, Skipped> {
    let group = Group::new(Controller::Memory)?;
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = case.start_in_with(directory.path(), SMALL, |command| group.entered_by(command));
    let (data, admin) = (server.data, server.admin);
    create(&server, "log", &["--kind", "log"]);
    let load = Load::start(&server, &[LOG], &here);
    load.go_on(Duration::from_millis(300));
    group.limit_memory(Some(group.memory_bytes() + (16 << 20)));
    // Its answer does not come, or says that the server is gone.
    let large = r#"{"name": "large", "kind": "memory", "partitions": 1, "retention_bytes": 268435456}"#;
    let answer = http(admin, "POST", "/v1/topics", large);
    assert!(!matches!(answer, Ok((201, _))), "{answer:?}");
    let status = server.wait();
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{status}: {}", server.log());
    assert!(group.killed() > 0, "it was the kernel, for the group");
    group.limit_memory(None);
    let begun = std::time::Instant::now();
    let server = case.start_at(directory.path(), data, admin, SMALL);
    let recovery = begun.elapsed() + load.recovers(RECOVERS);
    wait_for("it to be ready", || matches!(http(admin, "GET", "/readyz", ""), Ok((200, _))).then_some(()));
    let figures = load.finish(recovery);
    drop(server);
    Ok(figures.note("killed", group.killed()))
}
