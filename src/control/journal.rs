//! Control's lines in the log: a stable event name and what a person should know.

use crate::log::{Level, event};

/// Writes one line.
pub(crate) fn note(level: Level, name: &'static str, detail: &str) {
    event(level, name, detail, &[]);
}
