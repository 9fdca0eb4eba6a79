//! `top`: what a server is doing, from two samples of its counters.
//!
//! Live on a terminal, refreshed each second; one table otherwise.

mod rates;
mod screen;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use clap::Args;

use super::admin::{Admin, AdminArgs};
use super::exit::{Output, print, print_json};
use super::{EXIT_CODES, Exit, Failure, Outcome};

pub use rates::{Rates, Sample};
pub use screen::render;

const EXAMPLE: &str = "Examples:\n  uringest top\n  uringest top --once -o json | jq .cpu_ns_per_record\n";

/// `top`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, after_long_help = format!("{EXAMPLE}\n{EXIT_CODES}"))]
pub struct TopArgs {
    /// Prints one table and ends, as it does where standard output is no terminal.
    #[arg(long)]
    once: bool,
    /// Seconds between samples.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    #[command(flatten)]
    admin: AdminArgs,
    /// Form of the output; JSON is printed once.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Takes a sample.
///
/// # Errors
/// As [`Admin::call`]; an answer that is no snapshot is a failure.
pub fn sample(admin: &Admin) -> Result<Sample, Failure> {
    let value = admin.call("GET", "/v1/snapshot", None)?;
    serde_json::from_value(value).map_err(|error| {
        let message = format!("the snapshot of {} cannot be read: {error}", admin.host());
        Failure::new(Exit::Failed, message, "use the same version of uringest here as on the server")
    })
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached at the start, or refuses.
pub fn run(args: &TopArgs) -> Outcome {
    let admin = args.admin.client()?;
    let interval = Duration::from_secs(args.interval);
    let live = io::stdout().is_terminal() && !args.once && args.output == Output::Text;
    let mut before = sample(&admin)?;
    loop {
        wait_until(Instant::now() + interval);
        match sample(&admin) {
            Ok(now) => {
                let rates = Rates::between(&before, &now);
                match (args.output, live) {
                    (Output::Json, _) => return print_json(&rates),
                    (Output::Text, false) => return print(&render(&rates, admin.host())),
                    (Output::Text, true) => draw(&render(&rates, admin.host()))?,
                }
                before = now;
            }
            Err(failure) if live => draw(&format!("{failure}\n\nwaiting for {}\n", admin.host()))?,
            Err(failure) => return Err(failure),
        }
    }
}

fn wait_until(deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    std::thread::sleep(left);
}

/// Replaces what is on the screen, cut to its size so that nothing scrolls.
fn draw(text: &str) -> Outcome {
    let (columns, rows) =
        terminal_size::terminal_size().map_or((80, 24), |(width, height)| (width.0, height.0));
    let mut out = String::from("\x1b[H");
    for line in text.lines().take(usize::from(rows.saturating_sub(1))) {
        out.extend(line.chars().take(usize::from(columns)));
        out += "\x1b[K\n";
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all((out + "\x1b[J").as_bytes())?;
    stdout.flush()?;
    Ok(())
}
