//! One line on a terminal that says how far something is; nothing where standard error is not a terminal.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// From one look of the line to the next.
const EVERY: Duration = Duration::from_millis(200);
/// Cells of the bar.
const CELLS: u64 = 24;

/// See the module. The line is wiped when this is dropped.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    terminal: bool,
    said: Option<Instant>,
}

impl Progress {
    /// Of something that is called `what`.
    #[must_use]
    pub fn new(what: &'static str) -> Progress {
        Progress { what, terminal: std::io::stderr().is_terminal(), said: None }
    }

    /// So many of so many bytes are done, and what else there is to say.
    pub fn at(&mut self, bytes: u64, of: u64, more: &str) {
        if !self.terminal || self.said.is_some_and(|said| said.elapsed() < EVERY) {
            return;
        }
        self.said = Some(Instant::now());
        eprint!("\r\x1b[K{}", line(self.what, bytes, of, more));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.said.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

/// The line.
#[must_use]
pub fn line(what: &str, bytes: u64, of: u64, more: &str) -> String {
    let of = of.max(bytes).max(1);
    let share = |of_what: u64| {
        u64::try_from(u128::from(bytes) * u128::from(of_what) / u128::from(of)).unwrap_or(of_what)
    };
    let full = share(CELLS);
    let bar: String = (0..CELLS).map(|cell| if cell < full { '#' } else { '.' }).collect();
    let (done, all) = (about(bytes), about(of));
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    format!("{what} [{bar}] {:>3} % {done} of {all}{more}", share(100))
}

/// Bytes for people, to a tenth of their unit.
#[must_use]
pub fn about(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some((name, unit)) = UNITS.iter().find(|(_, unit)| bytes >= *unit) else {
        return format!("{bytes} B");
    };
    let tenths = bytes / (unit / 10).max(1);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// So many of something.
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_line_says_how_far() {
        assert_eq!(line("x", 0, 0, ""), "x [........................]   0 % 0 B of 1 B");
        assert_eq!(
            line("copying", (12 << 20) + 7, 48 << 20, "p00000001"),
            "copying [######..................]  25 % 12.0 MiB of 48.0 MiB, p00000001"
        );
        assert!(line("x", u64::MAX, u64::MAX, "").contains("100 %"));
    }
}
