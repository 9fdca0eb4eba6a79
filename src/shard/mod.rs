//! The shard: see docs/architecture.md.
pub mod messages;
