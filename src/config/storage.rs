//! `[storage]`: what a topic of kind `log` is kept by, its wishes first, then the section's defaults.

use std::path::PathBuf;

use super::codec::show_bytes;
use super::{Config, TopicConfig};
use crate::commit_log::BLOCK_BYTES;
use crate::proto::header::AckLevel;
use crate::topic::{LogSettings, TopicKind};

/// Whether the log's files bypass the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direct {
    /// Where the file system can.
    Auto,
    /// Never.
    Off,
}

/// What a topic of kind `log` may say for itself, beside its `retention_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogWishes {
    /// `None`: `topics.durability`.
    pub durability: Option<AckLevel>,
    /// `None`: `storage.retention_ms`; 0: none.
    pub retention_ms: Option<u64>,
    /// `None`: `storage.segment_bytes`.
    pub segment_bytes: Option<u64>,
}

impl Config {
    /// Where the partitions' logs are.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.storage.dir.clone().unwrap_or_else(|| self.data.join("log"))
    }

    /// How a topic that says this is kept; `None` for another kind that says nothing of it.
    #[must_use]
    pub fn log_settings(
        &self,
        kind: TopicKind,
        retention_bytes: Option<u64>,
        wishes: LogWishes,
    ) -> Option<LogSettings> {
        (kind == TopicKind::Log || wishes != LogWishes::default()).then(|| LogSettings {
            durability: wishes.durability.unwrap_or(self.topics.durability),
            retention_bytes: retention_bytes.unwrap_or(self.storage.retention_bytes),
            retention_ms: wishes.retention_ms.unwrap_or(self.storage.retention_ms),
            segment_bytes: wishes.segment_bytes.unwrap_or(self.storage.segment_bytes),
        })
    }

    /// Length of the files made now for a topic that was made with `segment_bytes`: a few of the largest frames fit.
    #[must_use]
    pub fn segment_bytes(&self, segment_bytes: u64) -> u64 {
        segment_bytes.max(frames(self)).next_multiple_of(BLOCK_BYTES)
    }
}

/// What a segment and a ring hold at least.
fn frames(config: &Config) -> u64 {
    4 * u64::from(config.limits.frame_bytes_max)
}

pub(super) fn check(config: &Config, fault: &mut impl FnMut(&str, String)) {
    let least = frames(config);
    let ring = config.topics.log_ring_bytes;
    if ring < least {
        let text = show_bytes(ring);
        fault("topics.log_ring_bytes", format!("{text} is less than 4 frames of limits.frame_bytes_max"));
    }
    let mut segment = |key: &str, bytes: u64| {
        let text = show_bytes(bytes);
        if bytes < least {
            fault(key, format!("{text} is less than 4 frames of limits.frame_bytes_max"));
        } else if !bytes.is_multiple_of(BLOCK_BYTES) {
            fault(key, format!("{text} is not a multiple of {}", show_bytes(BLOCK_BYTES)));
        }
    };
    segment("storage.segment_bytes", config.storage.segment_bytes);
    for TopicConfig { name, log, .. } in &config.topic {
        if let Some(bytes) = log.segment_bytes {
            segment(&format!("topic {name}.segment_bytes"), bytes);
        }
    }
}
