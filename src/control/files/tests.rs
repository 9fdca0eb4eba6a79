use std::path::Path;

use super::sim::SimFiles;
use super::*;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

async fn replaces_and_keeps(files: Disk) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("file");
    let previous = directory.path().join("file.1");
    for (bytes, before) in [(&b"one"[..], None), (b"two", Some(&b"one"[..])), (b"three", Some(b"two"))] {
        replace(&files, &path, bytes.to_vec(), Some(&previous)).await.expect("replace");
        assert_eq!(files.read(&path).expect("read").as_deref(), Some(bytes));
        assert_eq!(files.read(&previous).expect("read").as_deref(), before);
    }
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .expect("list")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["file", "file.1"], "nothing is left behind");
}

/// Room is reserved and given back, on the disk there is.
async fn reserves_and_removes(files: Disk) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let folder = directory.path().join("p");
    let path = folder.join("file");
    let bytes = ZEROS_BYTES as u64 + 3 * 4096;
    let reserve = Step::Reserve { path: path.clone(), bytes, zeroed: true, direct: false };
    files.apply(&reserve).await.expect_err("no such directory");
    files.apply(&Step::MakeDir { path: folder.clone() }).await.expect("made");
    files.apply(&Step::MakeDir { path: folder.clone() }).await.expect("there already");
    files.apply(&reserve).await.expect("there is room");
    assert_eq!(std::fs::read(&path).expect("read"), vec![0; usize::try_from(bytes).expect("small")]);
    std::fs::write(&path, [7; 8192]).expect("written");
    files.apply(&Step::Blank { path: path.clone(), direct: false }).await.expect("blanked");
    let read = std::fs::read(&path).expect("read");
    assert!(read.len() == 8192 && read[..4096] == [0; 4096] && read[4096..] == [7; 4096]);
    let how = Opening { write: false, direct: false };
    assert!(matches!(files.open(&path, how).await, Ok(FileHandle::Fd { direct: false, .. })));
    for _ in 0..2 {
        files.apply(&Step::Remove { path: path.clone() }).await.expect("removed, or gone already");
    }
    files.open(&path, how).await.expect_err("gone");
    for _ in 0..2 {
        files.apply(&Step::RemoveDir { path: folder.clone() }).await.expect("removed, or gone already");
    }
    assert!(!folder.exists());
}

#[test]
fn blocking_disk_reserves_and_removes() {
    run(reserves_and_removes(Disk::Blocking));
}

#[cfg(feature = "uring")]
#[test]
fn uring_disk_reserves_and_removes() {
    match tokio_uring::Runtime::new(&tokio_uring::builder()) {
        Ok(runtime) => runtime.block_on(reserves_and_removes(Disk::Uring)),
        Err(error) => eprintln!("skipped: no io_uring here: {error}"),
    }
}

#[test]
fn blocking_disk_replaces_and_keeps() {
    run(replaces_and_keeps(Disk::Blocking));
}

#[cfg(feature = "uring")]
#[test]
fn uring_disk_replaces_and_keeps() {
    match tokio_uring::Runtime::new(&tokio_uring::builder()) {
        Ok(runtime) => runtime.block_on(replaces_and_keeps(Disk::Uring)),
        Err(error) => eprintln!("skipped: no io_uring here: {error}"),
    }
}

#[test]
fn keeping_twice_what_is_the_same_file_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (from, to) = (directory.path().join("a"), directory.path().join("b"));
    std::fs::write(&from, b"x").expect("write");
    blocking::keep(&from, &to).expect("keep");
    blocking::keep(&from, &to).expect("keep again");
    assert_eq!(std::fs::read_dir(directory.path()).expect("list").count(), 2);
}

#[test]
fn an_error_names_the_step_and_the_file() {
    let path = Path::new("/proc/none/file");
    let error = run(replace(&Disk::Blocking, path, b"x".to_vec(), None)).expect_err("no such directory");
    assert_eq!(error.path, Path::new("/proc/none/file.new"));
    assert!(error.to_string().starts_with("cannot write /proc/none/file.new: "), "{error}");
}

/// A crash before or in each step leaves the old bytes or the new ones under the name.
#[test]
fn a_crash_leaves_the_old_or_the_new() {
    let path = Path::new("/data/file");
    let steps = replacement(path, b"new".to_vec(), Some(Path::new("/data/file.1"))).len();
    for fault in 0..=steps {
        for torn_bytes in 0..=3 {
            let files = SimFiles::default();
            files.put(path, b"old");
            files.fail_after(fault, torn_bytes);
            let result = run(replace(&files, path, b"new".to_vec(), Some(Path::new("/data/file.1"))));
            assert_eq!(result.is_ok(), fault == steps);
            for disk in files.after_crash() {
                let bytes = disk.read(path).expect("read").expect("the name never goes away");
                assert!(bytes == b"old" || bytes == b"new", "fault at step {fault}: {bytes:?}");
                assert!(result.is_err() || bytes == b"new", "what was confirmed is kept");
            }
        }
    }
}
