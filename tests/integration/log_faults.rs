//! What goes wrong around a log: a full disk, two servers on one directory, a later version's directory, files that do not
//! belong or are missing. Each is said clearly, and nothing is lost.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::log_rig::{Writer, read_all};
use crate::rig::{Case, Program, create, offsets, publish, scenarios};
use crate::support::{free_address, uringest, wait_for};

scenarios! {
    a_full_disk_is_waited_for_and_others_go_on on best epoll;
    a_directory_has_one_server on best;
    a_later_versions_directory_is_left_alone on best;
    files_that_do_not_belong_stay_where_they_are on best;
    a_folder_that_is_missing_is_named on best;
    a_torn_end_is_cut_and_nothing_else on best epoll;
}

/// A file system in memory of a bounded size; unmounted when it goes out of scope.
struct Small(PathBuf);

impl Small {
    /// `None` where mounting is not allowed.
    fn mount(at: PathBuf, bytes: u64) -> Option<Small> {
        std::fs::create_dir_all(&at).expect("a directory");
        let size = format!("size={bytes},mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "uringest-test"]).arg(&at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Small(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a server that is about to end may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn a_full_disk_is_waited_for_and_others_go_on(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(small) = Small::mount(directory.path().join("small"), 24 << 20) else {
        eprintln!("SKIPPED: a full disk needs root, to mount a small file system");
        return;
    };
    let ballast = small.0.join("ballast");
    std::fs::write(&ballast, vec![1; 12 << 20]).expect("room");
    let logs = small.0.join("logs").display().to_string();
    let args = ["--shards", "1", "--storage-dir", &logs, "--storage-segment-bytes", "1MiB"];
    let server = case.start_in(directory.path(), &args);
    create(&server, "events", &["--kind", "log"]);
    create(&server, "other", &["--kind", "memory"]);
    let url = server.url();
    // About 20 MiB, where there is room for ten.
    const LINES: u64 = 200_000;
    let wide = |range: std::ops::RangeInclusive<u64>| -> Vec<u8> {
        range.flat_map(|number| format!("{number}{}\n", ".".repeat(90)).into_bytes()).collect()
    };
    let mut publisher =
        Program::fed(&["pub", "events", "--ack", "written", "--server", &url], wide(1..=LINES));
    wait_for("the disk to be full", || publisher.err().contains("disk_full").then_some(()));
    let (_, full_at) = offsets(&server, "events");
    assert!(full_at > 0 && full_at < LINES, "{full_at}");
    assert!(publisher.err().contains("trying again"), "{}", publisher.err());
    // Others go on, and so does reading.
    publish(&server, "other", 1..=1_000, &[]);
    assert_eq!(offsets(&server, "other").1, 1_000);
    let count = full_at.to_string();
    let mut reader =
        Program::start(&["sub", "events", "--from", "earliest", "--count", &count, "--server", &url]);
    let read = reader.numbers();
    assert_eq!((read.len() as u64, read.first()), (full_at, Some(&1)));
    // Room comes: it goes on by itself.
    std::fs::remove_file(&ballast).expect("it was there");
    assert_eq!(publisher.wait(), Some(0), "{}", publisher.err());
    let count = LINES.to_string();
    let mut reader =
        Program::start(&["sub", "events", "--from", "earliest", "--count", &count, "--server", &url]);
    crate::rig::assert_each_once(&reader.numbers(), 1..=LINES);
}

/// Starts a server that does not get far: its exit code and what it said.
fn refused(case: &Case, data: &Path, args: &[&str]) -> (Option<i32>, String) {
    let (listen, admin) = (free_address().to_string(), free_address().to_string());
    let mut command = uringest(&["serve", "--listen", &listen, "--admin", &admin, "--data"]);
    command.arg(data).args(case.io()).args(args);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let output = child.and_then(std::process::Child::wait_with_output).expect("the program under test");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn a_directory_has_one_server(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let server = case.start_in(directory.path(), &["--shards", "1"]);
    create(&server, "events", &["--kind", "log"]);
    publish(&server, "events", 1..=100, &[]);
    let (code, said) = refused(case, &directory.path().join("data"), &[]);
    assert!(code != Some(0) && said.contains("in use"), "{code:?}: {said}");
    // The log alone is somebody's too.
    let logs = directory.path().join("data").join("log").display().to_string();
    let other = directory.path().join("other");
    let (code, said) = refused(case, &other, &["--storage-dir", &logs]);
    assert!(code != Some(0) && said.contains("in use by another server"), "{code:?}: {said}");
    publish(&server, "events", 101..=200, &[]);
    assert_eq!(offsets(&server, "events"), (0, 200));
}

/// A directory whose server has ended, with a topic of a few records: the log's folder.
fn left(case: &Case, directory: &Path) -> PathBuf {
    let mut server = case.start_in(directory, &["--shards", "1"]);
    create(&server, "events", &["--kind", "log"]);
    publish(&server, "events", 1..=1_000, &[]);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    directory.join("data").join("log")
}

/// Files and their contents, by name.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).expect("a file");
                all.push((path, bytes));
            }
        }
    }
    all.sort();
    all
}

fn a_later_versions_directory_is_left_alone(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let log = left(case, directory.path());
    let marker = log.join("format");
    let ours = std::fs::read_to_string(&marker).expect("it says its format");
    for later in ["uringest log 2\n", "uringest log 4000000000\n"] {
        std::fs::write(&marker, later).expect("it can be written");
        let before = contents(&log);
        let (code, said) = refused(case, &directory.path().join("data"), &[]);
        assert!(code != Some(0) && said.contains("nothing was touched"), "{code:?}: {said}");
        assert!(said.contains(&log.display().to_string()), "{said}");
        assert!(contents(&log) == before, "not a byte was changed");
    }
    std::fs::write(&marker, ours).expect("it can be written");
    let server = case.start_in(directory.path(), &["--shards", "1"]);
    assert_eq!(offsets(&server, "events"), (0, 1_000));
}

fn files_that_do_not_belong_stay_where_they_are(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let log = left(case, directory.path());
    let folder = contents(&log).iter().find_map(|(path, _)| {
        (path.extension()? == "seg").then(|| path.parent().expect("a folder").to_owned())
    });
    let folder = folder.expect("a partition's folder");
    // In the log's folder, in a partition's, and what looks like a segment and is none.
    let strange = [log.join("notes.txt"), folder.join("notes.txt"), folder.join("00000000000000000999.seg")];
    for path in &strange {
        std::fs::write(path, "somebody's").expect("it can be written");
    }
    let mut server = case.start_in(directory.path(), &["--shards", "1"]);
    assert_eq!(offsets(&server, "events"), (0, 1_000));
    assert!(server.log().contains("notes.txt"), "it is said: {}", server.log());
    publish(&server, "events", 1_001..=2_000, &[]);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    for path in &strange {
        assert_eq!(std::fs::read_to_string(path).expect("it is still there"), "somebody's");
    }
    let server = case.start_in(directory.path(), &["--shards", "1"]);
    assert_eq!(offsets(&server, "events"), (0, 2_000));
}

fn a_folder_that_is_missing_is_named(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let log = left(case, directory.path());
    let folders = std::fs::read_dir(&log).expect("the log").map(|one| one.expect("an entry").path());
    let folder = folders.into_iter().find(|path| path.is_dir()).expect("a partition's folder");
    let aside = directory.path().join("aside");
    std::fs::rename(&folder, &aside).expect("it can be moved");
    let (code, said) = refused(case, &directory.path().join("data"), &[]);
    let named = said.contains("events") && said.contains(&folder.display().to_string());
    assert!(code != Some(0) && named, "{code:?}: {said}");
    std::fs::rename(&aside, &folder).expect("it can be moved back");
    let server = case.start_in(directory.path(), &["--shards", "1"]);
    assert_eq!(offsets(&server, "events"), (0, 1_000));
}

/// The last block that was written is written in part only, as a power cut may leave it.
fn a_torn_end_is_cut_and_nothing_else(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = case.start_in(directory.path(), &["--shards", "1"]);
    create(&server, "events", &["--kind", "log"]);
    let writer = Writer::connect(&server, "events", 1, 0, None);
    writer.send(500);
    writer.flush();
    let first = read_all(&server, "events", 0);
    writer.send(1);
    writer.flush();
    let last = read_all(&server, "events", 0);
    assert_eq!(last.len(), first.len() + 1);
    server.signal("KILL");
    server.wait();
    drop(writer);
    let log = directory.path().join("data").join("log");
    let (path, mut bytes) = contents(&log)
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|end| end == "seg"))
        .rfind(|(_, bytes)| bytes.iter().skip(4096).any(|byte| *byte != 0))
        .expect("a segment with records");
    // Its payload is somewhere; the end of the file is zeros.
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("something is written");
    bytes[end] ^= 0xff;
    std::fs::write(&path, &bytes).expect("it can be written");
    let server = case.start_in(directory.path(), &["--shards", "1"]);
    let got = read_all(&server, "events", 0);
    assert!(got == first, "the last batch, and nothing else: {} of {}", got.len(), last.len());
    let writer = Writer::connect(&server, "events", 2, 0, None);
    writer.send(100);
    writer.flush();
    let after = read_all(&server, "events", 0);
    assert!(after[..got.len()] == got[..] && after.len() == got.len() + 100);
}
