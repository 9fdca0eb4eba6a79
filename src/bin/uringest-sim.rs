//! `uringest-sim`: runs the simulated server by seeds. See `docs/testing.md`.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, IsTerminal as _, Write as _};
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};
use serde_json::{Value, json};
use uringest::cli::connection::Interrupt;
use uringest::cli::exit::{print, print_json};
use uringest::cli::{self, Exit, Output};
use uringest::mutation::{self, Mutation};
use uringest::sim::{self, Failure, Mappings, Outcome};

/// Failures that `-o json` lists; more are only counted.
const LISTED_MAX: usize = 1000;
/// Seeds that a known bug has to be found in.
const LOOKED_THROUGH: RangeInclusive<u64> = 0..=149;
/// Events that a seed may have there. Few seeds have more, and those would take most of the time.
const LOOKED_THROUGH_EVENTS_MAX: u64 = 1_000_000;
/// Known bugs that are looked for at a time.
const SEARCHES_MAX: usize = 8;
/// From one look of the terminal's line to the next.
const EVERY: Duration = Duration::from_millis(200);
/// The longest time to run for, and the default. Minutes.
const MINUTES_MAX: f64 = 7.0 * 24.0 * 60.0;
const MINUTES_DEFAULT: f64 = 1.0;

/// Runs a whole server and its clients on virtual time, with everything that can go wrong, as seeds decide.
///
/// Without a seed: seeds that nobody has chosen, for a minute. It ends at the first seed that fails.
#[derive(Debug, Parser)]
#[command(name = "uringest-sim", version = cli::VERSION, max_term_width = 110, after_help = concat!(
    "Examples:\n  cargo sim\n  cargo sim --minutes 60 --keep-going\n  cargo sim --seeds 0..60 -o json\n  \
    cargo sim --seed 7 --trace | less\n\nExit codes: 0 every seed ran well; 1 one failed; 2 wrong command line; \
    130 ended by SIGINT, 143 by SIGTERM (behind the seed at hand, with what came so far; the second ends at once)."))]
struct Args {
    /// One seed: the same run as always
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// The seeds from FIRST on, up to LAST and without it
    #[arg(long, value_name = "FIRST..LAST", value_parser = range, allow_hyphen_values = true)]
    seeds: Option<RangeInclusive<u64>>,
    /// For so long at most, 0.5 being half a minute; where no seeds are named those that nobody has chosen
    #[arg(long, value_name = "M", value_parser = minutes, allow_hyphen_values = true)]
    minutes: Option<Duration>,
    /// Tell everything that happens; the seed runs once
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Of a seed that fails find fewer acts that fail in the same place
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Put a known bug in (all: each by itself) and look for it; where no seeds are named in the one that has found it
    /// before, then in 0..150
    #[arg(long, value_name = "NAME", value_parser = bugs,
        conflicts_with_all = ["seed", "minutes", "keep_going", "once"])]
    mutation: Option<Bugs>,
    /// Go on behind a seed that fails
    #[arg(long)]
    keep_going: bool,
    /// Run each seed once, not twice: whether both runs are the same is not looked at
    #[arg(long)]
    once: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Args {
    /// Refuses, too, what clap has no word for: a trace is lines.
    fn or_exit() -> Args {
        let args = Args::parse();
        if args.trace && args.output == Output::Json {
            let message = "--trace is for people: leave out -o json";
            Args::command().error(ErrorKind::ArgumentConflict, message).exit();
        }
        args
    }

    /// Which seeds, and for how long at most.
    fn wanted(&self) -> (RangeInclusive<u64>, Option<Duration>) {
        match (self.seed, &self.seeds) {
            (Some(seed), _) => (seed..=seed, None),
            (None, Some(seeds)) => (seeds.clone(), self.minutes),
            (None, None) => {
                let minutes = self.minutes.unwrap_or(Duration::from_secs_f64(MINUTES_DEFAULT * 60.0));
                (nobodys_seed()..=u64::MAX, Some(minutes))
            }
        }
    }
}

fn range(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number =
        |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number from 0 to {}", u64::MAX));
    let Some((first, last)) = text.split_once("..") else {
        return Err("it is FIRST..LAST, as in 0..60; one seed is --seed N".to_owned());
    };
    let (first, last): (u64, u64) = (number(first)?, number(last)?);
    if first < last {
        Ok(first..=last - 1)
    } else {
        Err("there is no seed in it: FIRST must be below LAST".to_owned())
    }
}

/// Known bugs to look for.
type Bugs = &'static [Mutation];

fn bugs(name: &str) -> Result<Bugs, String> {
    if name == "all" {
        return Ok(Mutation::ALL);
    }
    let found = Mutation::ALL.iter().position(|bug| bug.name() == name);
    found.map(|at| &Mutation::ALL[at..=at]).ok_or_else(|| {
        let known = Mutation::ALL.iter().map(|bug| format!("\n  {:22}{}", bug.name(), bug.text()));
        format!("known are all, and{}", known.collect::<String>())
    })
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes: f64 = text.parse().map_err(|_| "it is a number, as in 0.5 or 60".to_owned())?;
    if minutes > 0.0 && minutes <= MINUTES_MAX {
        Ok(Duration::from_secs_f64(minutes * 60.0))
    } else {
        Err(format!("it is more than 0 and at most {MINUTES_MAX} (a week)"))
    }
}

/// A first seed that no other start has, not even one of the same moment. Short enough for programs whose numbers are
/// floating.
fn nobodys_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 12
}

fn main() -> ExitCode {
    let args = Args::or_exit();
    let interrupt = match Interrupt::watch() {
        Ok(interrupt) => interrupt,
        Err(failure) => return Exit::of(&Err(failure)),
    };
    if !args.trace {
        interrupt.arm(); // a trace ends at once
    }
    sim::quiet_panics();
    if let Some(bugs) = args.mutation {
        let code = Exit::of(&look_for(bugs, &args, &interrupt));
        return interrupt.exit_code().map_or(code, ExitCode::from);
    }
    let mut session = Session::new(&args, &interrupt);
    // A reader that has gone is no failure, and makes none well.
    match session.run().and_then(|()| session.report()) {
        Err(unsaid) if unsaid.exit != Exit::Ok => Exit::of(&Err(unsaid)),
        _ if session.total.failed > 0 => ExitCode::from(Exit::Failed as u8),
        _ => ExitCode::from(interrupt.exit_code().unwrap_or(Exit::Ok as u8)),
    }
}

/// Seeds, one after the other.
struct Session<'a> {
    args: &'a Args,
    interrupt: &'a Interrupt,
    mappings: Mappings,
    total: Total,
    line: Line,
}

impl<'a> Session<'a> {
    fn new(args: &'a Args, interrupt: &'a Interrupt) -> Session<'a> {
        Session { args, interrupt, mappings: Mappings::new(), total: Total::default(), line: Line::new() }
    }

    fn run(&mut self) -> cli::Outcome {
        let (seeds, time) = self.args.wanted();
        let begun = Instant::now();
        for seed in seeds {
            match self.seed(seed) {
                Ok(outcome) => self.total.add(seed, &outcome),
                Err(failure) => self.failed(seed, &failure)?,
            }
            self.total.took = begun.elapsed();
            self.line.tell(&self.total);
            let enough = time.is_some_and(|time| self.total.took >= time);
            if enough || self.interrupt.is_set() || (self.total.failed > 0 && !self.args.keep_going) {
                break;
            }
        }
        Ok(())
    }

    /// A seed, twice if it is not told otherwise, and whether both runs were the same.
    fn seed(&self, seed: u64) -> Result<Outcome, Failure> {
        let outcome = sim::run(seed, &self.mappings, self.args.trace)?;
        if self.args.once || self.args.trace {
            return Ok(outcome);
        }
        let again = sim::run(seed, &self.mappings, false)?;
        if again == outcome { Ok(outcome) } else { Err(Failure::other(&outcome, &again)) }
    }

    /// Says which, why, and how it runs again.
    fn failed(&mut self, seed: u64, failure: &Failure) -> cli::Outcome {
        self.line.wipe();
        let again = again(seed, failure);
        if self.args.output == Output::Text {
            let (at, what) = (&failure.at, &failure.what);
            let version = cli::VERSION;
            print(&format!(
                "\nseed {seed} failed, at {at}\n{what}\nuringest {version}\nrun it again: {again}\n"
            ))?;
        }
        let mut listed = json!({ "seed": seed, "at": failure.at, "what": failure.what, "again": again });
        if self.args.shrink {
            listed["acts"] = self.shrink(seed, failure)?;
        }
        self.total.fail(seed, listed);
        Ok(())
    }

    /// The shortest list of acts that was found to fail in the same place.
    fn shrink(&mut self, seed: u64, failure: &Failure) -> Result<Value, cli::Failure> {
        if failure.is_of_second_run() {
            let _ = writeln!(io::stderr(), "not made shorter: no single run of it fails");
            return Ok(Value::Null);
        }
        let (line, interrupt) = (&mut self.line, self.interrupt);
        let acts = sim::shrink(seed, failure, &self.mappings, &mut |left| {
            line.say(&format!("{left} acts left"));
            !interrupt.is_set()
        });
        line.wipe();
        if self.args.output == Output::Text {
            let mut text = format!("with these {} acts it fails in the same place:\n", acts.len());
            for timed in &acts {
                text += &format!("{:>14.6} ms  {:?}\n", timed.at_ns as f64 / 1e6, timed.act);
            }
            print(&text)?;
        }
        let acts =
            acts.iter().map(|timed| json!({ "at_ns": timed.at_ns, "act": format!("{:?}", timed.act) }));
        Ok(acts.collect())
    }

    fn report(&mut self) -> cli::Outcome {
        self.line.wipe();
        let interrupted = self.interrupt.is_set();
        if self.args.shrink && self.total.failed == 0 {
            let _ = writeln!(io::stderr(), "it did not fail: there is nothing to make shorter");
        }
        match self.args.output {
            Output::Json => print_json(&self.total.json(interrupted)),
            Output::Text => {
                let interrupted = if interrupted { "interrupted: " } else { "" };
                print(&format!("{interrupted}{}\n", self.total.text()))
            }
        }
    }
}

/// Puts in each bug, as many at a time as there are processors. All of them have to be found.
fn look_for(bugs: Bugs, args: &Args, interrupt: &Interrupt) -> cli::Outcome {
    let (searches, cut) = searches(bugs, args, interrupt)?;
    let unfound: Vec<_> =
        searches.iter().filter(|search| search.found.is_none()).map(|search| search.bug.name()).collect();
    if args.output == Output::Json {
        let listed: Vec<_> = searches.iter().map(Search::json).collect();
        let version = cli::VERSION;
        print_json(&json!({ "version": version, "bugs": listed, "unfound": unfound, "interrupted": cut }))?;
    }
    if !cut.is_empty() {
        let message = format!("ended by a signal while it looked for {}", cut.join(", "));
        return Err(cli::Failure::new(Exit::Failed, message, ""));
    }
    if unfound.is_empty() {
        return Ok(());
    }
    let message = format!("not found: {}", unfound.join(", "));
    Err(cli::Failure::new(Exit::Failed, message, "an oracle, or a fault, is missing in src/sim"))
}

/// What was found, in the order of the bugs, and what was still looked for when a signal came.
fn searches(
    bugs: Bugs,
    args: &Args,
    interrupt: &Interrupt,
) -> Result<(Vec<Search>, Vec<&'static str>), cli::Failure> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(SEARCHES_MAX).min(bugs.len());
    let next = AtomicUsize::new(0);
    let search = |told: mpsc::Sender<Told>| {
        let mappings = Mappings::new();
        while let Some(&bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if interrupt.is_set() || told.send(Told::Begun(bug)).is_err() {
                break;
            }
            let search = Search::run(bug, args.seeds.clone(), &mappings, interrupt);
            // What a signal has cut short has no result.
            let whole = search.found.is_some() || !interrupt.is_set();
            if !whole || told.send(Told::Ended(search)).is_err() {
                break;
            }
        }
    };
    let (mut searches, mut begun) = (Vec::new(), Vec::new());
    let mut said = Ok(());
    thread::scope(|scope| {
        let (told, heard) = mpsc::channel();
        for _ in 0..threads {
            let told = told.clone();
            scope.spawn(|| search(told));
        }
        drop(told);
        for told in heard {
            if args.output == Output::Text && said.is_ok() {
                said = print(&told.text());
            }
            match told {
                Told::Begun(bug) => begun.push(bug),
                Told::Ended(search) => {
                    begun.retain(|bug| *bug != search.bug);
                    searches.push(search);
                }
            }
        }
    });
    said?;
    searches.sort_by_key(|search| bugs.iter().position(|bug| *bug == search.bug));
    Ok((searches, begun.into_iter().map(Mutation::name).collect()))
}

/// What a thread says that looks for bugs: a reader of the lines knows what it was at where nothing follows.
enum Told {
    Begun(Mutation),
    Ended(Search),
}

impl Told {
    fn text(&self) -> String {
        match self {
            Told::Begun(bug) => format!("{:22} is looked for\n", bug.name()),
            Told::Ended(search) => search.text(),
        }
    }
}

/// A known bug that was looked for.
struct Search {
    bug: Mutation,
    found: Option<(u64, Failure)>,
    /// How often it was come upon.
    met: u64,
    /// Seeds that had more events than they may have, and are not known to show it or not.
    passed_over: u64,
    took: Duration,
}

impl Search {
    /// Looks through these seeds; where none are named first at the one that has found the bug before.
    fn run(
        bug: Mutation,
        seeds: Option<RangeInclusive<u64>>,
        mappings: &Mappings,
        interrupt: &Interrupt,
    ) -> Search {
        let begun = Instant::now();
        let first = if seeds.is_none() { Some(bug.seed()) } else { None };
        let mut seeds = first.into_iter().chain(seeds.unwrap_or(LOOKED_THROUGH));
        let mut passed_over = 0;
        mutation::put_in(Some(bug));
        let found =
            seeds.by_ref().take_while(|_| !interrupt.is_set()).find_map(|seed| {
                match sim::run_at_most(LOOKED_THROUGH_EVENTS_MAX, seed, mappings) {
                    Ok(Some(_)) => None,
                    Ok(None) => {
                        passed_over += 1;
                        None
                    }
                    Err(failure) => Some((seed, failure)),
                }
            });
        let met = mutation::met();
        mutation::put_in(None);
        Search { bug, found, met, passed_over, took: begun.elapsed() }
    }

    fn text(&self) -> String {
        let took = about(self.took);
        let how = match &self.found {
            Some((seed, failure)) => format!("found by seed {seed} in {took}, at {}", failure.at),
            None => format!("NOT FOUND in {took}, met {} times: {}", self.met, self.bug.text()),
        };
        let over = match self.passed_over {
            0 => String::new(),
            seeds => format!("; {seeds} passed over, longer than {LOOKED_THROUGH_EVENTS_MAX} events"),
        };
        format!("{:22} {how}{over}\n", self.bug.name())
    }

    fn json(&self) -> Value {
        let seed = self.found.as_ref().map(|(seed, _)| seed);
        let found = self.found.as_ref().map(|(_, Failure { at, what })| json!({ "at": at, "what": what }));
        json!({
            "bug": self.bug.name(),
            "text": self.bug.text(),
            "seed": seed,
            "found": found,
            "met": self.met,
            "passed_over": self.passed_over,
        })
    }
}

/// The command that shows a failure again. A trace is of one run: it does not tell of a second that was another.
fn again(seed: u64, failure: &Failure) -> String {
    let trace = if failure.is_of_second_run() { "" } else { " --trace" };
    format!("cargo sim --seed {seed}{trace}")
}

/// A time for people.
fn about(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} minutes", s / 60.0),
        s => format!("{:.1} hours", s / 3600.0),
    }
}

/// What all seeds came to.
#[derive(Default)]
struct Total {
    /// The first and the last that ran.
    span: Option<(u64, u64)>,
    seeds: u64,
    failed: u64,
    /// The first [`LISTED_MAX`] of them.
    failures: Vec<Value>,
    operations: u64,
    acknowledged: u64,
    delivered: u64,
    virtual_ns: u64,
    took: Duration,
}

impl Total {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.count(seed);
        self.operations += outcome.operations();
        self.acknowledged += outcome.acknowledged;
        self.delivered += outcome.delivered;
        self.virtual_ns += outcome.virtual_ns;
    }

    fn fail(&mut self, seed: u64, failure: Value) {
        self.count(seed);
        self.failed += 1;
        if self.failures.len() < LISTED_MAX {
            self.failures.push(failure);
        }
    }

    fn count(&mut self, seed: u64) {
        self.seeds += 1;
        self.span = Some((self.span.map_or(seed, |(first, _)| first), seed));
    }

    /// Operations of a minute.
    fn rate(&self) -> f64 {
        self.operations as f64 * 60.0 / self.took.as_secs_f64().max(1e-9)
    }

    fn text(&self) -> String {
        let which = match self.span {
            None => String::new(),
            Some((first, last)) if first == last => format!(" ({first})"),
            Some((first, last)) => format!(" ({first} to {last})"),
        };
        format!(
            "{} seed{}{which}, {} failed; {} operations, {:.2} million a minute; {} records acknowledged, {} delivered; \
             {} of virtual time in {}",
            self.seeds,
            if self.seeds == 1 { "" } else { "s" },
            self.failed,
            self.operations,
            self.rate() / 1e6,
            self.acknowledged,
            self.delivered,
            about(Duration::from_nanos(self.virtual_ns)),
            about(self.took),
        )
    }

    fn json(&self, interrupted: bool) -> Value {
        let elapsed_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        json!({
            "version": cli::VERSION,
            "first_seed": self.span.map(|(first, _)| first),
            "last_seed": self.span.map(|(_, last)| last),
            "seeds": self.seeds,
            "failed": self.failed,
            "interrupted": interrupted,
            "operations": self.operations,
            "operations_per_minute": self.operations.saturating_mul(60_000) / elapsed_ms.max(1),
            "acknowledged": self.acknowledged,
            "delivered": self.delivered,
            "virtual_ms": self.virtual_ns / 1_000_000,
            "elapsed_ms": elapsed_ms,
            "failures": self.failures,
        })
    }
}

/// How far it is, in one line of a terminal that is no longer than most are wide; nothing elsewhere.
struct Line {
    terminal: bool,
    said: Option<Instant>,
}

impl Line {
    fn new() -> Line {
        Line { terminal: io::stderr().is_terminal(), said: None }
    }

    fn tell(&mut self, total: &Total) {
        if self.terminal {
            let (seeds, failed, rate) = (total.seeds, total.failed, total.rate() / 1e6);
            let seconds = total.took.as_secs();
            self.say(&format!(
                "{seeds} seeds in {seconds} s, {failed} failed; {rate:.2} million operations a minute"
            ));
        }
    }

    fn say(&mut self, text: &str) {
        if self.terminal && self.said.is_none_or(|said| said.elapsed() >= EVERY) {
            self.said = Some(Instant::now());
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        }
    }

    fn wipe(&mut self) {
        if self.said.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
