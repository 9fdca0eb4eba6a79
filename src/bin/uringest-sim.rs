//! `uringest-sim`: runs the simulated server by seeds. See `docs/testing.md`.

use std::io::{IsTerminal as _, Write as _};
use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use uringest::cli;
use uringest::sim::{self, Failure, Mappings, Outcome};

/// Runs a whole server and its clients on virtual time, with everything that can go wrong, as seeds decide.
#[derive(Debug, Parser)]
#[command(version = cli::VERSION, about)]
struct Args {
    /// One seed: the same run as always
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// These seeds: FIRST..LAST, without the last
    #[arg(long, value_parser = range, conflicts_with = "minutes")]
    seeds: Option<(u64, u64)>,
    /// Seeds that nobody has chosen, for as long
    #[arg(long)]
    minutes: Option<f64>,
    /// Tell everything that happens
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Find a shorter list of acts that fails, too
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Go on behind a seed that fails
    #[arg(long)]
    keep_going: bool,
    /// Run each seed once, not twice: whether both runs are the same is not looked at
    #[arg(long)]
    once: bool,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is not a number"));
    let (first, last) = text.split_once("..").ok_or("FIRST..LAST is wanted, as in 0..100")?;
    let (first, last) = (number(first)?, number(last)?);
    if first < last { Ok((first, last)) } else { Err("the last is behind the first".to_owned()) }
}

/// What all runs came to.
#[derive(Default)]
struct Total {
    runs: u64,
    failed: u64,
    operations: u64,
    acknowledged: u64,
    delivered: u64,
    virtual_ns: u64,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.operations += outcome.operations();
        self.acknowledged += outcome.acknowledged;
        self.delivered += outcome.delivered;
        self.virtual_ns += outcome.virtual_ns;
    }

    fn line(&self, took: Duration) -> String {
        let minutes = took.as_secs_f64() / 60.0;
        format!(
            "{} seeds, {} failed; {} operations, {:.2} million a minute; {} records acknowledged, {} delivered; \
             {:.1} hours of virtual time in {:.1} minutes",
            self.runs,
            self.failed,
            self.operations,
            self.operations as f64 / 1e6 / minutes,
            self.acknowledged,
            self.delivered,
            self.virtual_ns as f64 / 3.6e12,
            minutes,
        )
    }
}

/// A seed, twice if it is not told otherwise, and whether both runs were the same.
fn run(seed: u64, mappings: &Mappings, args: &Args) -> Result<Outcome, Failure> {
    let outcome = sim::run(seed, mappings, args.trace)?;
    if args.once || args.trace {
        return Ok(outcome);
    }
    let again = sim::run(seed, mappings, false)?;
    if again == outcome { Ok(outcome) } else { Err(Failure::other(&outcome, &again)) }
}

fn tell(seed: u64, failure: &Failure) {
    println!("\nseed {seed} failed, at {}\n{}", failure.at, failure.what);
    println!("uringest {}", cli::VERSION);
    println!("run it again: cargo sim --seed {seed} --trace");
}

fn main() -> ExitCode {
    let args = Args::parse();
    sim::quiet_panics();
    let mappings = Mappings::new();
    let (seeds, until) = wanted(&args);
    let (begun, mut total) = (Instant::now(), Total::default());
    let terminal = std::io::stderr().is_terminal();
    for seed in seeds {
        if until.is_some_and(|until| begun.elapsed() >= until) {
            break;
        }
        total.runs += 1;
        match run(seed, &mappings, &args) {
            Ok(outcome) => total.add(&outcome),
            Err(failure) => {
                total.failed += 1;
                tell(seed, &failure);
                if args.shrink {
                    shrink(seed, &failure, &mappings);
                }
                if !args.keep_going {
                    break;
                }
            }
        }
        if terminal && total.runs.is_multiple_of(10) {
            eprint!("\r{}\x1b[K", total.line(begun.elapsed()));
            let _flushed = std::io::stderr().flush();
        }
    }
    if terminal {
        eprintln!();
    }
    println!("{}", total.line(begun.elapsed()));
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Which seeds, and for how long. Without an argument: seeds that nobody has chosen, for a minute.
fn wanted(args: &Args) -> (Range<u64>, Option<Duration>) {
    if let Some((first, last)) = args.seed.map(|seed| (seed, seed.saturating_add(1))).or(args.seeds) {
        return (first..last, None);
    }
    let first = begun_at();
    (first..u64::MAX, Some(Duration::from_secs_f64(args.minutes.unwrap_or(1.0) * 60.0)))
}

/// A first seed that no other start has.
fn begun_at() -> u64 {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock behind 1970");
    now.as_secs() * 1_000_000
}

/// Prints the shortest list of acts that was found to fail in the same place.
fn shrink(seed: u64, failure: &Failure, mappings: &Mappings) {
    let acts = sim::shrink(seed, failure, mappings, &mut |left| eprint!("\r{left} acts left \x1b[K"));
    eprintln!();
    println!("with these {} acts it fails in the same place:", acts.len());
    for timed in acts {
        println!("{:>14.6} ms  {:?}", timed.at_ns as f64 / 1e6, timed.act);
    }
}
