//! The durable log's readers against a plain model: whatever lies in the files, nothing but what was written comes out.

#[path = "commit_log/golden.rs"]
mod golden;
#[path = "support/log_folder.rs"]
mod log_folder;
#[path = "support/log_writer.rs"]
mod log_writer;
#[path = "commit_log/recovery.rs"]
mod recovery;
#[path = "commit_log/stories.rs"]
mod stories;
#[path = "commit_log/window.rs"]
mod window;
