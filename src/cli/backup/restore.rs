//! `restore`: a data directory made of a backup.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::super::exit::{Output, print, print_json};
use super::super::progress::{Progress, about, counted};
use super::super::{EXIT_CODES, Exit, Failure, Outcome};
use super::EXAMPLE;
use super::copy::{self, Copied, copy, failed, must_be_empty, sync_tree};
use super::manifest::Manifest;
use crate::commit_log::format::partition_folder;
use crate::control::catalogue::decode;
use crate::ids::PartitionId;
use crate::io::host;

/// `restore`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, after_long_help = format!("{EXAMPLE}\n\n{EXIT_CODES}"))]
pub struct RestoreArgs {
    /// The backup.
    #[arg(value_name = "BACKUP")]
    from: PathBuf,
    /// The data directory to make, empty or new.
    #[arg(value_name = "DIR")]
    to: PathBuf,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Verifies a backup and makes a data directory of it, whole or not at all.
///
/// # Errors
/// When the backup is not whole, or the directory cannot be made.
pub fn run(args: &RestoreArgs) -> Outcome {
    let began = Instant::now();
    let manifest = Manifest::read(&args.from)?;
    // Without a slash at its end.
    let target: PathBuf = args.to.components().collect();
    if target.exists() {
        must_be_empty(&target)?;
    }
    let mut beside = target.clone().into_os_string();
    beside.push(".restoring");
    let beside = PathBuf::from(beside);
    if beside.exists() {
        let message = format!("{} is there, of a restore that did not end", beside.display());
        return Err(Failure::new(Exit::Failed, message, "remove it"));
    }
    let made = build(args, &manifest, &beside);
    if let Err(failure) = made {
        // What is not whole must not be taken for a data directory.
        let _ = std::fs::remove_dir_all(&beside);
        return Err(failure);
    }
    // rename(2) takes the place of an empty directory.
    std::fs::rename(&beside, &target).map_err(failed("rename to", &target))?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed("sync", parent))?;
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let (files, partitions, to) = (manifest.files.len(), manifest.partitions.len(), target.display());
    match args.output {
        Output::Json => print_json(&json!({
            "data": to.to_string(), "created": manifest.created, "partitions": partitions, "files": files,
            "bytes": bytes, "seconds": began.elapsed().as_secs_f64(),
        })),
        Output::Text => print(&format!(
            "{to}: {}, {}, {}, as of {}; `uringest serve --data {to}` goes on with it\n",
            counted(partitions as u64, "partition"),
            counted(files as u64, "file"),
            about(bytes),
            manifest.created
        )),
    }
}

fn build(args: &RestoreArgs, manifest: &Manifest, to: &Path) -> Outcome {
    let damaged = |what: String| Failure::new(Exit::Failed, what, "take another backup");
    copy::new_directory(to)?;
    std::fs::create_dir(to.join("log")).map_err(failed("make", to))?;
    let all = manifest.files.iter().map(|file| file.bytes).sum();
    let (mut before, mut progress) = (0, Progress::new("restoring"));
    for file in &manifest.files {
        let (from, target) = (args.from.join(&file.name), to.join(&file.name));
        let mut told = |bytes: u64| {
            progress.at(before + bytes, all, &file.name);
            Ok(())
        };
        let Copied { sha256 } = copy(&from, &target, (file.bytes, file.file_bytes), &mut told)?;
        if sha256 != file.sha256 {
            return Err(damaged(format!(
                "{} is not what was backed up: its digest is another",
                from.display()
            )));
        }
        before += file.bytes;
        reserve(&target, file.file_bytes)?;
    }
    drop(progress);
    let path = to.join("catalogue.json");
    let bytes = std::fs::read(&path).map_err(failed("read", &path))?;
    let catalogue = decode(&bytes).map_err(|error| damaged(format!("{}: {error}", path.display())))?;
    for topic in catalogue.topics.iter().filter(|topic| topic.log.is_some()) {
        for partition in &topic.partitions {
            let folder = to.join("log").join(partition_folder(PartitionId(partition.id)));
            std::fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
            let known = manifest.partitions.iter().find(|known| known.partition_id == partition.id);
            let Some(known) = known else {
                return Err(damaged(format!(
                    "partition {} of topic {} is not in it",
                    partition.id, topic.name
                )));
            };
            let found = copy::recovered(&to.join("log"), partition.id, true, &mut || Ok(()))?.log.end.offset;
            if found != known.log_end_offset {
                let wanted = known.log_end_offset;
                return Err(damaged(format!(
                    "partition {} of topic {} ends at offset {found}, and not at {wanted}",
                    known.id, known.topic
                )));
            }
        }
    }
    sync_tree(to)
}

/// The room that the server counts on when it uses the file again.
fn reserve(path: &Path, bytes: u64) -> Outcome {
    let file = File::options().write(true).open(path).map_err(failed("open", path))?;
    match host::allocate(file.as_fd(), bytes.max(1)) {
        // The file system has no way to reserve.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        result => result.map_err(failed("reserve room for", path)),
    }
}
