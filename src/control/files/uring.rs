//! Steps over io_uring.

use std::io;

use tokio_uring::fs::File;

use super::{Opening, Step, blocking, off_thread, zeros};
use crate::commit_log::BLOCK_BYTES;

/// Only inside a tokio-uring runtime.
pub(super) async fn apply(step: &Step) -> io::Result<()> {
    match step {
        Step::Write { path, bytes } => {
            let file = File::create(path).await?;
            let (written, _bytes) = file.write_all_at(bytes.clone(), 0).await;
            written?;
            file.sync_all().await?;
            file.close().await
        }
        Step::Rename { from, to } => tokio_uring::fs::rename(from, to).await,
        Step::SyncDir { path } => {
            let directory = File::open(path).await?;
            directory.sync_all().await?;
            directory.close().await
        }
        Step::Reserve { path, bytes, zeroed, direct } => {
            let (path, bytes, direct) = (path.clone(), *bytes, *direct);
            let file = off_thread(move || blocking::reserve(&path, bytes, direct)).await?;
            fill(File::from_std(file), if *zeroed { bytes } else { 0 }).await
        }
        Step::Blank { path, direct } => {
            let (path, how) = (path.clone(), Opening { write: true, direct: *direct });
            let file = off_thread(move || blocking::open(&path, how)).await?;
            fill(File::from_std(file), BLOCK_BYTES).await
        }
        // What changes directory entries only, and what tokio-uring has no operation for.
        Step::Keep { .. } | Step::Remove { .. } | Step::MakeDir { .. } | Step::RemoveDir { .. } => {
            let step = step.clone();
            off_thread(move || blocking::apply(&step)).await
        }
    }
}

/// Writes so many zeros, syncs and closes.
async fn fill(file: File, bytes: u64) -> io::Result<()> {
    let mut at = 0;
    while at < bytes {
        let part = zeros(bytes - at);
        let (written, _part) = file.write_all_at(part, at).await;
        written?;
        at += part.len() as u64;
    }
    file.sync_all().await?;
    file.close().await
}
