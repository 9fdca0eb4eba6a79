//! A replacement's steps over io_uring.

use std::io;

use super::{Step, keep};

/// Only inside a tokio-uring runtime.
pub(super) async fn apply(step: &Step) -> io::Result<()> {
    match step {
        Step::Write { path, bytes } => {
            let file = tokio_uring::fs::File::create(path).await?;
            let (written, _bytes) = file.write_all_at(bytes.clone(), 0).await;
            written?;
            file.sync_all().await?;
            file.close().await
        }
        Step::Rename { from, to } => tokio_uring::fs::rename(from, to).await,
        Step::SyncDir { path } => {
            let directory = tokio_uring::fs::File::open(path).await?;
            directory.sync_all().await?;
            directory.close().await
        }
        // tokio-uring has no linkat; it changes a directory entry only, like rename.
        Step::Keep { from, to } => keep(from, to),
    }
}
