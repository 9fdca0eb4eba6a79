//! A bar on standard error while a measurement runs, where that is a terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

const WIDTH: usize = 30;

/// See the module. Removed from the line when it is dropped.
#[derive(Debug)]
pub struct Progress {
    label: String,
    shown: bool,
    visible: bool,
}

impl Progress {
    /// For something of this name.
    #[must_use]
    pub fn new(label: &str) -> Progress {
        Progress { label: label.to_owned(), shown: std::io::stderr().is_terminal(), visible: false }
    }

    /// So much of so much time has passed.
    pub fn at(&mut self, passed: Duration, whole: Duration) {
        if self.shown {
            let share = passed.as_secs_f64() / whole.as_secs_f64().max(1e-9);
            self.draw(&bar(&self.label, share, passed.min(whole), whole));
        }
    }

    /// What happens where no end is known.
    pub fn say(&mut self, what: &str) {
        if self.shown {
            self.draw(&format!("{} {what}", self.label));
        }
    }

    fn draw(&mut self, line: &str) {
        self.visible = true;
        let mut out = std::io::stderr().lock();
        let _written = write!(out, "\r\x1b[K{line}").and_then(|()| out.flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.visible {
            eprint!("\r\x1b[K");
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share of a small width
fn bar(label: &str, share: f64, passed: Duration, whole: Duration) -> String {
    let full = (share.clamp(0.0, 1.0) * WIDTH as f64) as usize;
    let (done, open) = ("█".repeat(full), "░".repeat(WIDTH - full));
    format!("{label} {done}{open} {:.0} of {:.0} s", passed.as_secs_f64(), whole.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_from_nothing_to_whole() {
        let at = |seconds| {
            let line = bar("x", f64::from(seconds) / 6.0, Duration::from_secs(1), Duration::from_secs(6));
            (line.matches('█').count(), line.matches('░').count())
        };
        assert_eq!([at(0), at(3), at(6), at(9)], [(0, 30), (15, 15), (30, 0), (30, 0)]);
    }
}
