//! Runs the cases one by one, prints what each measured, and lists what was skipped and what failed.
//!
//! Understands as much of the usual harness's command line as tools use: names to run, `--exact`, `--skip`, `--list`.

use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::rig::Case;

/// The kinds of I/O that a case is run on.
#[derive(Debug, Clone, Copy)]
pub struct Io {
    name: &'static str,
    args: &'static [&'static str],
}

impl Io {
    pub const ALL: &'static [Io] = &[
        #[cfg(feature = "uring")]
        Io { name: "on_the_best", args: &[] },
        #[cfg(feature = "epoll")]
        Io { name: "on_epoll", args: &["--io", "epoll"] },
    ];
}

/// A case as it is listed.
pub struct Listed {
    pub name: &'static str,
    pub run: fn(&Case) -> Result<Figures, Skipped>,
    pub on: &'static [Io],
}

/// Why a case cannot be run here.
#[derive(Debug)]
pub struct Skipped(pub String);

/// What clients noticed of a fault.
#[derive(Debug, Default)]
pub struct Figures {
    pub acknowledged: u64,
    pub delivered: u64,
    /// Records that were stored or delivered once more.
    pub duplicates: u64,
    /// Records that were acknowledged, and are not there.
    pub lost: u64,
    /// The longest time without an acknowledgement to anybody.
    pub stall: Duration,
    /// From the fault's end until all that was sent before is acknowledged and delivered.
    pub recovery: Duration,
    /// What else is worth a number.
    pub notes: Vec<(&'static str, String)>,
}

impl Figures {
    pub fn note(mut self, what: &'static str, value: impl ToString) -> Figures {
        self.notes.push((what, value.to_string()));
        self
    }

    fn line(&self) -> String {
        let notes: String = self.notes.iter().map(|(what, value)| format!(", {what} {value}")).collect();
        format!(
            "acknowledged {}, delivered {}, duplicates {}, lost {}, stall {:.3} s, recovery {:.3} s{notes}",
            self.acknowledged,
            self.delivered,
            self.duplicates,
            self.lost,
            self.stall.as_secs_f64(),
            self.recovery.as_secs_f64(),
        )
    }

    fn json(&self) -> serde_json::Value {
        let notes: serde_json::Map<_, _> =
            self.notes.iter().map(|(what, value)| ((*what).to_owned(), json!(value))).collect();
        json!({
            "acknowledged": self.acknowledged,
            "delivered": self.delivered,
            "duplicates": self.duplicates,
            "lost": self.lost,
            "stall_s": self.stall.as_secs_f64(),
            "recovery_s": self.recovery.as_secs_f64(),
            "notes": notes,
        })
    }
}

/// What became of a case.
enum Ended {
    Well(Figures),
    Skipped(String),
    Badly,
}

struct Wanted {
    names: Vec<String>,
    skipped: Vec<String>,
    exact: bool,
}

impl Wanted {
    fn has(&self, name: &str) -> bool {
        let matches = |part: &String| if self.exact { name == part } else { name.contains(part.as_str()) };
        (self.names.is_empty() || self.names.iter().any(matches)) && !self.skipped.iter().any(matches)
    }
}

pub fn main(cases: &'static [Listed]) -> ExitCode {
    let mut wanted = Wanted { names: Vec::new(), skipped: Vec::new(), exact: false };
    let (mut list, mut ignored) = (false, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--list" => list = true,
            "--exact" => wanted.exact = true,
            "--ignored" => ignored = true,
            "--skip" => wanted.skipped.extend(args.next()),
            "--test-threads" | "--format" | "--color" | "--logfile" => drop(args.next()),
            flag if flag.starts_with('-') => {} // of the usual harness, and without a meaning here
            name => wanted.names.push(name.to_owned()),
        }
    }
    let all = cases.iter().flat_map(|case| case.on.iter().map(move |io| (case, io)));
    let named = all.map(|(case, io)| (format!("{}::{}", case.name, io.name), case, io));
    let chosen: Vec<_> = named.filter(|(name, _, _)| !ignored && wanted.has(name)).collect();
    if list {
        chosen.iter().for_each(|(name, _, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} cases of chaos, one by one", chosen.len());
    let mut ended = Vec::new();
    for (name, case, io) in chosen {
        let begun = Instant::now();
        let how = run(&name, case, *io);
        let took = begun.elapsed().as_secs_f64();
        match &how {
            Ended::Well(figures) => println!("chaos {name} ({took:.1} s): {}", figures.line()),
            Ended::Skipped(why) => eprintln!("SKIPPED chaos {name}: {why}"),
            Ended::Badly => println!("chaos {name} ({took:.1} s): FAILED"),
        }
        ended.push((name, how));
    }
    report(&ended)
}

/// On a thread of its own, named as the case: it may leave for namespaces of its own and need not come back.
fn run(name: &str, case: &'static Listed, io: Io) -> Ended {
    let (tell, told) = mpsc::channel();
    let body = move || {
        let ended = match (case.run)(&Case::of("chaos", io.args)) {
            Ok(figures) => Ended::Well(figures),
            Err(Skipped(why)) => Ended::Skipped(why),
        };
        let _ = tell.send(ended); // the receiver waits for the thread's end
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("a thread");
    match thread.join() {
        Ok(()) => told.recv().expect("told before its end"),
        Err(_) => Ended::Badly, // the panic has been printed
    }
}

fn report(ended: &[(String, Ended)]) -> ExitCode {
    let rows: Vec<_> = ended
        .iter()
        .map(|(name, how)| match how {
            Ended::Well(figures) => json!({ "case": name, "result": "ok", "figures": figures.json() }),
            Ended::Skipped(why) => json!({ "case": name, "result": "skipped", "reason": why }),
            Ended::Badly => json!({ "case": name, "result": "failed" }),
        })
        .collect();
    let file = match ended {
        [(only, _)] => format!("chaos-{}.json", only.replace("::", "-")),
        _ => "chaos.json".to_owned(),
    };
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    let text = serde_json::to_string_pretty(&rows).expect("values");
    std::fs::write(&file, text + "\n").unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let of = |wanted: fn(&Ended) -> bool| ended.iter().filter(move |(_, how)| wanted(how));
    let skipped = of(|how| matches!(how, Ended::Skipped(_)));
    let failed: Vec<&str> = of(|how| matches!(how, Ended::Badly)).map(|(name, _)| name.as_str()).collect();
    println!(
        "\nchaos: {} ok, {} failed, {} skipped; {}",
        of(|how| matches!(how, Ended::Well(_))).count(),
        failed.len(),
        skipped.clone().count(),
        file.display()
    );
    for (name, how) in skipped {
        if let Ended::Skipped(why) = how {
            eprintln!("SKIPPED chaos {name}: {why}");
        }
    }
    failed.iter().for_each(|name| println!("FAILED chaos {name}"));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
