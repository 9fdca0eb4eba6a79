//! Control: one thread beside the shards that owns everything slow. See docs/architecture.md.
//!
//! It owns the catalogue and its file, the topics' rings, committed offsets' persistence, the admin HTTP
//! server, signals and the drain. It never touches a record.

pub mod catalogue;
pub mod files;
pub mod http;
