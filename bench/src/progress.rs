//! A bar on standard error while a measurement runs, where that is a terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

const WIDTH: usize = 30;
/// Of a terminal that does not say it.
const COLUMNS: usize = 80;

/// How far something long is of which this is a part.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Whole {
    /// Seconds that the whole was expected to take, as are the following.
    pub all_s: f64,
    /// Of what is done.
    pub done_s: f64,
    /// Of this part.
    pub this_s: f64,
    /// How much longer things take than expected: 1.1 is a tenth.
    pub pace: f64,
}

impl Whole {
    /// With so much of this part done: the share of the whole, and the time that is left.
    #[must_use]
    pub fn at(&self, share_of_this: f64) -> (f64, Duration) {
        let done = self.done_s + self.this_s * share_of_this.clamp(0.0, 1.0);
        let left = ((self.all_s - done) * self.pace).max(0.0);
        (done / self.all_s.max(1e-9), Duration::try_from_secs_f64(left).unwrap_or_default())
    }
}

/// A time that is left, as people say it.
#[must_use]
pub fn left(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..90 => format!("{seconds} s left"),
        seconds => format!("{} min left", (seconds + 30) / 60),
    }
}

/// See the module. Removed from the line when it is dropped.
#[derive(Debug)]
pub struct Progress {
    label: String,
    shown: bool,
    visible: bool,
    whole: Option<Whole>,
}

impl Progress {
    /// For something of this name.
    #[must_use]
    pub fn new(label: &str) -> Progress {
        Progress { label: label.to_owned(), shown: is_shown(), visible: false, whole: None }
    }

    /// The same for a part of something long: the bar is the whole's.
    #[must_use]
    pub fn within(whole: Whole, label: &str) -> Progress {
        let mut progress = Progress::new(label);
        progress.whole = Some(whole);
        progress.at(Duration::ZERO, Duration::from_secs(1));
        progress
    }

    /// So much of so much time has passed.
    pub fn at(&mut self, passed: Duration, whole: Duration) {
        if self.shown {
            let share = passed.as_secs_f64() / whole.as_secs_f64().max(1e-9);
            match self.whole {
                Some(of) => self.draw_whole(of, share, ""),
                None => self.draw(&bar(&self.label, share, passed.min(whole), whole)),
            }
        }
    }

    /// What happens where no end is known.
    pub fn say(&mut self, what: &str) {
        match self.whole {
            _ if !self.shown => {}
            Some(of) => self.draw_whole(of, 0.0, what),
            None => self.draw(&format!("{} {what}", self.label)),
        }
    }

    fn draw_whole(&mut self, whole: Whole, share: f64, what: &str) {
        let (share, time) = whole.at(share);
        let line = format!("{} {:.0} %, {}: {} {what}", blocks(share), share * 100.0, left(time), self.label);
        let line: String = line.trim_end().chars().take(columns() - 1).collect();
        self.draw(&line);
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

/// Whether bars are drawn: where they are not, whoever measures says in lines how far it is.
#[must_use]
pub fn is_shown() -> bool {
    std::io::stderr().is_terminal()
}

fn bar(label: &str, share: f64, passed: Duration, whole: Duration) -> String {
    format!("{label} {} {:.0} of {:.0} s", blocks(share), passed.as_secs_f64(), whole.as_secs_f64())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share of a small width
fn blocks(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * WIDTH as f64) as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(WIDTH - full))
}

/// Columns of the terminal: a longer line would leave its beginning behind.
fn columns() -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointer is to a local that lives over the call.
    let said = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    if said < 0 || size.ws_col < 2 { COLUMNS } else { size.ws_col.into() }
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

    #[test]
    fn what_is_left_of_a_whole_goes_by_the_pace_so_far() {
        let whole = Whole { all_s: 100.0, done_s: 40.0, this_s: 20.0, pace: 1.5 };
        assert_eq!(whole.at(0.5), (0.5, Duration::from_secs(75)));
        assert_eq!(Whole { done_s: 200.0, ..whole }.at(1.0).1, Duration::ZERO, "never below nothing");
        assert_eq!(Whole::default().at(1.0), (0.0, Duration::ZERO));
        assert_eq!(left(Duration::from_secs(89)), "89 s left");
        assert_eq!(left(Duration::from_secs(151)), "3 min left");
    }
}
