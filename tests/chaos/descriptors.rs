//! The server's limit of descriptors is met: by connections, and by the files of its log.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use uringest::limits::HEADER_BYTES;
use uringest::proto::header::{FrameHeader, Kind};

use crate::harness::{Figures, Skipped};
use crate::load::{Load, here, is_ready};
use crate::raw::{Peer, hello};
use crate::rig::{Case, create, metric, wait_for_metric};
use crate::support::{Server, wait_for};

/// In which everything goes on.
const RECOVERS: Duration = Duration::from_secs(10);

fn limit(descriptors: u64) -> libc::rlimit {
    libc::rlimit { rlim_cur: descriptors, rlim_max: descriptors }
}

/// Whether a new connection is let in.
fn is_welcome(server: &Server) -> bool {
    let mut peer = Peer::connect(server.data);
    let mut header = [0; HEADER_BYTES];
    let answered = peer.0.write_all(&hello()).and_then(|()| peer.0.read_exact(&mut header));
    answered.is_ok() && FrameHeader::parse(&header, u32::MAX).is_ok_and(|header| header.kind == Kind::Welcome)
}

/// A command that may open so many files, and no more.
fn with_few(mut command: Command, descriptors: u64) -> Command {
    let limit = limit(descriptors);
    let set = move || {
        // SAFETY: the pointer is to a value that the closure owns; the call neither allocates nor locks.
        let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: what runs between fork and exec makes one system call and nothing else.
    unsafe { command.pre_exec(set) };
    command
}

/// Changes the soft limit of a server that runs, which needs no rights; gives back what it was.
fn change_limit(server: &Server, descriptors: u64) -> std::io::Result<u64> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let pid = libc::pid_t::try_from(server.pid()).expect("a pid");
    // SAFETY: the one pointer is null, which asks for nothing, and the other to a value of this function.
    let got = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut now) };
    let before = now.rlim_cur;
    now.rlim_cur = descriptors;
    // SAFETY: as above, the other way round.
    let set = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const now, std::ptr::null_mut()) };
    if (got, set) == (0, 0) { Ok(before) } else { Err(std::io::Error::last_os_error()) }
}

fn open_descriptors(server: &Server) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs").count() as u64
}

/// More connections come than the server may open descriptors, or have sockets by index: it was started with few.
/// What must hold: it says so at its start, serves who is there, tells others that there are too many, so that what is not
/// a connection has descriptors too: `/readyz` answers, and logs get files. It takes connections again when others go.
pub fn connections(case: &Case) -> Result<Figures, Skipped> {
    const DESCRIPTORS: u64 = 96;
    const PEERS: usize = 150;
    let directory = tempfile::tempdir().expect("a directory");
    let few = |command| with_few(command, DESCRIPTORS);
    let server = case.start_in_with(directory.path(), &["--shards", "1"], few);
    let said = is_ready(&server);
    assert!(said.contains("open_files_limited") && said.contains("48 connections"), "{said}");
    let load = Load::of_both_kinds(&server, &here);
    let handshakes = metric(&server, "uringest_handshakes_total");
    let mut peers: Vec<Peer> = (0..PEERS)
        .map(|_| {
            let mut peer = Peer::connect(server.data);
            peer.send(&hello());
            peer
        })
        .collect();
    load.go_on(Duration::from_secs(1));
    // Those who are told that there are too many have a descriptor for a moment, too.
    let begun = Instant::now();
    is_ready(&server);
    let answered = begun.elapsed();
    assert!(answered < RECOVERS, "/readyz took {answered:?}");
    load.recovers(RECOVERS);
    let welcomed = || metric(&server, "uringest_handshakes_total") - handshakes;
    let refused = || server.metric("uringest_refusals_total{shard=\"0\",code=\"too_many_connections\"}");
    wait_for("all to be let in or told why not", || (welcomed() + refused() >= PEERS as f64).then_some(()));
    let (welcomed, refused) = (welcomed(), refused());
    assert!(welcomed > 20.0 && refused > 20.0, "{welcomed} were welcomed and {refused} refused");
    create(&server, "another", &["--kind", "log"]);
    // Those who were let in are whole connections.
    let mut first = peers.remove(0);
    assert!(first.0.read(&mut [0; 64]).is_ok_and(|read| read == 64), "the first was welcomed");
    drop((first, peers));
    let begun = Instant::now();
    // Until the server has heard that they went it may say that there are too many.
    wait_for("a connection after others have gone", || is_welcome(&server).then_some(()));
    let again = begun.elapsed();
    assert!(again < RECOVERS, "a connection after others have gone took {again:?}");
    let recovery = again + load.recovers(RECOVERS);
    let figures = load.finish(recovery).note("descriptors", DESCRIPTORS).note("peers", PEERS);
    Ok(figures.note("welcomed", welcomed).note("refused", refused).note("/readyz, ms", answered.as_millis()))
}

/// The server has every descriptor it may open when its log needs files.
/// What must hold: topics in memory go on; the log's producers wait, and nobody is told a wrong thing; when there are
/// descriptors again, all goes on by itself.
pub fn files(case: &Case) -> Result<Figures, Skipped> {
    let args = ["--shards", "1", "--storage-segment-bytes", "1MiB", "--topics-log-ring-bytes", "4MiB"];
    let server = case.start(&args);
    let load = Load::of_both_kinds(&server, &here);
    let none = open_descriptors(&server);
    let before = change_limit(&server, none).map_err(|why| Skipped(format!("another's limit: {why}")))?;
    let (log, memory) = {
        let writers: Vec<_> = load.writers().collect();
        (writers[0], writers[2])
    };
    // Its last files are full.
    let mut last = 0;
    wait_for("the log to need a file", || {
        load.go_on(Duration::from_millis(700));
        let before = std::mem::replace(&mut last, log.acked());
        (before == last).then_some(())
    });
    let in_memory = memory.acked();
    load.go_on(Duration::from_millis(500));
    assert!(memory.acked() > in_memory, "a topic in memory needs no file");
    assert!(server.log().contains("Too many open files"), "the reason is said: {}", server.log());
    change_limit(&server, before).expect("as it was");
    let recovery = load.recovers(RECOVERS);
    assert!(!is_ready(&server).contains("log_disk_full"), "it is over");
    let figures = load.finish(recovery);
    wait_for_metric(&server, "uringest_log_partitions_full", 0.0);
    Ok(figures.note("descriptors", none))
}
