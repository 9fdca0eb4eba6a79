//! `manifest.json`: what a backup has, and that it is whole.
//!
//! One JSON object `{"format":1,"sha256":"...","backup":{...}}`; the digest is over the exact bytes of the `backup`
//! value.

use std::fs::File;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::super::{Exit, Failure, Outcome};
use super::copy::failed;
use crate::control::api::{BackupPartition, BackupPlan};

/// The format this program writes and the newest it reads.
const FORMAT: u32 = 1;
const NAME: &str = "manifest.json";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// When the backup was begun.
    pub created: String,
    /// The server's version.
    pub version: String,
    pub partitions: Vec<PartitionEntry>,
    /// Everything but the manifest.
    pub files: Vec<FileEntry>,
}

/// One partition of kind `log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartitionEntry {
    pub topic: String,
    /// Its number within the topic.
    pub id: u32,
    pub partition_id: u32,
    pub log_start_offset: u64,
    pub log_end_offset: u64,
}

impl PartitionEntry {
    pub(super) fn of(partition: &BackupPartition) -> PartitionEntry {
        PartitionEntry {
            topic: partition.topic.clone(),
            id: partition.id,
            partition_id: partition.partition_id,
            log_start_offset: partition.log_start_offset,
            log_end_offset: partition.log_end_offset,
        }
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    /// From the backup's directory on.
    pub name: String,
    /// How much of it was copied.
    pub bytes: u64,
    /// Its length; the rest is zeros.
    pub file_bytes: u64,
    /// Of what was copied, in hexadecimal.
    pub sha256: String,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    sha256: &'a str,
    #[serde(borrow)]
    backup: &'a RawValue,
}

/// A digest as the manifest writes it.
pub(super) fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

impl Manifest {
    pub(super) fn new(plan: &BackupPlan) -> Manifest {
        let (created, version) = (plan.created.clone(), plan.version.clone());
        Manifest { created, version, partitions: Vec::new(), files: Vec::new() }
    }

    fn encode(&self) -> String {
        // Plain structs with string keys: serde_json has no way to fail on them.
        let body = serde_json::to_string(self).expect("a manifest is always valid JSON");
        format!("{{\"format\":{FORMAT},\"sha256\":\"{}\",\"backup\":{body}}}\n", digest(body.as_bytes()))
    }

    /// Finishes the backup: everything else is durable.
    pub(super) fn write(&self, directory: &Path) -> Outcome {
        let (beside, path) = (directory.join("manifest.json.new"), directory.join(NAME));
        let write = || {
            std::fs::write(&beside, self.encode())?;
            File::open(&beside)?.sync_all()?;
            std::fs::rename(&beside, &path)?;
            File::open(directory)?.sync_all()
        };
        write().map_err(failed("write", &path))
    }

    /// The manifest of a finished backup.
    pub(super) fn read(directory: &Path) -> Result<Manifest, Failure> {
        let path = directory.join(NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!(
                    "{} has no {NAME}: it is no backup, or one that did not end",
                    directory.display()
                );
                return Err(Failure::new(Exit::Failed, message, "take another backup"));
            }
            Err(error) => return Err(failed("read", &path)(error)),
        };
        decode(&bytes).map_err(|why| {
            Failure::new(
                Exit::Failed,
                format!("{} cannot be used: {why}", path.display()),
                "take another backup",
            )
        })
    }
}

fn decode(bytes: &[u8]) -> Result<Manifest, String> {
    let damaged = |error: serde_json::Error| format!("it is damaged ({error})");
    let Format { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format == 0 || format > FORMAT {
        return Err(format!("it has format {format} and this program knows formats up to {FORMAT}"));
    }
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(damaged)?;
    if envelope.sha256 != digest(envelope.backup.get().as_bytes()) {
        return Err("it is damaged (its digest is another)".to_owned());
    }
    let manifest: Manifest = serde_json::from_str(envelope.backup.get()).map_err(damaged)?;
    let inside = |name: &str| Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    match manifest.files.iter().find(|file| file.name.is_empty() || !inside(&file.name)) {
        Some(file) => Err(format!("it names {:?}, which is not inside of it", file.name)),
        None => Ok(manifest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let read = || Manifest::read(directory.path()).map_err(|failure| failure.to_string());
        assert!(read().expect_err("not finished").contains("did not end"));
        let file = |name: &str| FileEntry { name: name.into(), bytes: 1, file_bytes: 2, sha256: "00".into() };
        let mut manifest = Manifest {
            created: "now".into(),
            version: "1".into(),
            partitions: Vec::new(),
            files: vec![file("log/p00000001/snapshot")],
        };
        manifest.write(directory.path()).expect("written");
        assert_eq!(read(), Ok(manifest.clone()));
        let text = manifest.encode();
        for (from, to, why) in
            [("now", "not", "digest"), ("\"format\":1", "\"format\":2", "format 2"), ("{", "", "damaged")]
        {
            std::fs::write(directory.path().join(NAME), text.replacen(from, to, 1)).expect("written");
            assert!(read().expect_err(to).contains(why));
        }
        for name in ["../x", "/etc/passwd", "log/../../x", ""] {
            manifest.files = vec![file(name)];
            manifest.write(directory.path()).expect("written");
            assert!(read().expect_err(name).contains("not inside"), "{name}");
        }
    }
}
