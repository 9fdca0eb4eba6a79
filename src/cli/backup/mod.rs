//! `backup` and `restore`: a copy of a running server's logs and catalogue, segment by segment, and a data directory
//! made of one.
//!
//! A backup is a directory with `catalogue.json`, the partitions' folders below `log`, and `manifest.json`, which is
//! written last: without it there is no backup.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::admin::{Admin, AdminArgs};
use super::exit::{Output, print, print_json};
use super::progress::{Progress, about, counted};
use super::{EXIT_CODES, Exit, Failure, Outcome};
use crate::config::{BACKUP_LEASE, Codec as _};
use crate::control::api::{BackupPartition, BackupPlan};

mod copy;
mod manifest;
mod restore;

pub use restore::{RestoreArgs, run as run_restore};

use copy::{Copied, copy, new_directory, sync_tree};
use manifest::{FileEntry, Manifest, PartitionEntry};

/// The part of a lease after which it is renewed.
const RENEW_AT: u32 = 4;

const EXAMPLE: &str = "Examples:\n  uringest backup /backups/2026-11-21\n  uringest restore /backups/2026-11-21 /var/lib/uringest\n  \
    uringest serve --data /var/lib/uringest\n\nIt runs on the server's host, as a user who may read its data directory. \
    What is acknowledged before it begins is in it; the server goes on meanwhile.";

/// `backup`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, after_long_help = format!("{EXAMPLE}\n\n{EXIT_CODES}"))]
pub struct BackupArgs {
    /// Where to: a directory that is empty or does not exist.
    #[arg(value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    admin: AdminArgs,
    /// How long the server keeps what is to be copied when it hears nothing more of the backup; more where the
    /// destination is slow to sync a file.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = lease)]
    lease: u64,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Makes a backup.
///
/// # Errors
/// When the server cannot be reached or refuses, or a file cannot be copied; there is no manifest then.
pub fn run(args: &BackupArgs) -> Outcome {
    let began = Instant::now();
    let admin = args.admin.client()?;
    new_directory(&args.to)?;
    let answer = admin.call("POST", "/v1/backup", Some(&json!({ "lease_ms": args.lease })))?;
    let plan: BackupPlan = serde_json::from_value(answer).map_err(|error| {
        Failure::new(Exit::Failed, format!("the server's answer is no backup's plan: {error}"), "")
    })?;
    let mut lease = Lease { admin: &admin, plan: &plan, renewed: Instant::now(), done: Vec::new() };
    let copied = copy_all(args, &plan, &mut lease);
    let ended = lease.end();
    let (manifest, damaged) = copied?;
    // Nobody else may have had the files while they were copied.
    ended?;
    sync_tree(&args.to)?;
    manifest.write(&args.to)?;
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let (files, partitions) = (manifest.files.len(), manifest.partitions.len());
    let to = args.to.display();
    match args.output {
        Output::Json => print_json(&json!({
            "backup": to.to_string(), "created": manifest.created, "partitions": partitions, "files": files,
            "bytes": bytes, "damaged": damaged, "seconds": began.elapsed().as_secs_f64(),
        })),
        Output::Text => {
            let warned: String =
                damaged.iter().map(|line| format!("damaged in the server's log: {line}\n")).collect();
            let size = about(bytes);
            print(&format!(
                "{warned}{to}: {}, {}, {size}, of {}\n",
                counted(partitions as u64, "partition"),
                counted(files as u64, "file"),
                manifest.created
            ))
        }
    }
}

fn lease(text: &str) -> Result<u64, String> {
    BACKUP_LEASE.parse(text).map_err(|why| format!("it {why}; allowed: {}", BACKUP_LEASE.allowed()))
}

/// What the server holds for this backup.
struct Lease<'a> {
    admin: &'a Admin,
    plan: &'a BackupPlan,
    renewed: Instant,
    /// Partitions that have been copied, and of which the server has not been told.
    done: Vec<u32>,
}

impl Lease<'_> {
    fn path(&self) -> String {
        format!("/v1/backup/{}", self.plan.lease)
    }

    /// Renews it when it is time.
    fn keep(&mut self) -> Outcome {
        if self.renewed.elapsed() < Duration::from_millis(self.plan.lease_ms) / RENEW_AT {
            return Ok(());
        }
        self.admin.call("POST", &self.path(), Some(&json!({ "done": self.done })))?;
        self.done.clear();
        self.renewed = Instant::now();
        Ok(())
    }

    /// Gives it back. An error when it was over already.
    fn end(&self) -> Outcome {
        self.admin.call("DELETE", &self.path(), None).map(drop)
    }
}

fn copy_all(
    args: &BackupArgs,
    plan: &BackupPlan,
    lease: &mut Lease<'_>,
) -> Result<(Manifest, Vec<String>), Failure> {
    if !std::fs::exists(&plan.marker).unwrap_or(false) {
        let message = format!("{} of the server is not here, or not for this user", plan.log_dir);
        let remedy = "run it on the server's host, as the server's user";
        return Err(Failure::new(Exit::Failed, message, remedy));
    }
    let mut manifest = Manifest::new(plan);
    let catalogue = args.to.join("catalogue.json");
    let entry = copy::write(&catalogue, "catalogue.json", plan.catalogue.as_bytes())?;
    manifest.files.push(entry);
    let all: u64 = plan.partitions.iter().flat_map(|partition| &partition.files).map(|file| file.bytes).sum();
    let (mut before, mut progress, mut damaged) = (0, Progress::new("copying"), Vec::new());
    for partition in &plan.partitions {
        for file in &partition.files {
            let from = PathBuf::from(&plan.log_dir).join(&file.from);
            let name = format!("log/{}", file.name);
            let mut told = |bytes: u64| {
                progress.at(before + bytes, all, &name);
                lease.keep()
            };
            let Copied { sha256 } =
                copy(&from, &args.to.join(&name), (file.bytes, file.file_bytes), &mut told)?;
            before += file.bytes;
            let (bytes, file_bytes) = (file.bytes, file.file_bytes);
            manifest.files.push(FileEntry { name, bytes, file_bytes, sha256 });
        }
        damaged.extend(check(args, partition, lease)?);
        lease.done.push(partition.partition_id);
        manifest.partitions.push(PartitionEntry::of(partition));
    }
    Ok((manifest, damaged))
}

/// Reads a copied partition as a start would: it has to end where the server said. What is damaged in it is told.
fn check(
    args: &BackupArgs,
    partition: &BackupPartition,
    lease: &mut Lease<'_>,
) -> Result<Vec<String>, Failure> {
    let found = copy::recovered(&args.to.join("log"), partition.partition_id, false, &mut || lease.keep())?;
    let wanted = partition.log_end_offset;
    if found.log.end.offset != wanted && !partition.files.is_empty() {
        let BackupPartition { topic, id, .. } = partition;
        let message = format!(
            "partition {id} of topic {topic} ends at offset {} in the copy and at {wanted} in the server",
            found.log.end.offset
        );
        return Err(Failure::new(
            Exit::Failed,
            message,
            "look at the server's disk; `uringest log verify` reads its log",
        ));
    }
    let lost = found.findings.iter().filter(|finding| finding.is_loss());
    Ok(lost
        .map(|finding| format!("topic {}, partition {}: {finding}", partition.topic, partition.id))
        .collect())
}
