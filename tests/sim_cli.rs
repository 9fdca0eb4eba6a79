//! `uringest-sim` as its users run it: refusals, exit codes, what it prints, signals. Built with the feature `sim` only.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uringest-sim"));
    command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code, standard output, standard error.
fn ended(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = program(args).output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().expect("no signal"), text(stdout), text(stderr))
}

fn json(args: &[&str]) -> Value {
    let (code, out, err) = ended(&[args, &["-o", "json"]].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
    serde_json::from_str(&out).expect("one JSON value")
}

/// Waits for a condition; a program that hangs does not outlive the test.
fn wait_until(child: &mut Child, what: &str, mut holds: impl FnMut(&mut Child) -> bool) {
    let begun = Instant::now();
    while !holds(child) {
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("{what}: not within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn exit_code(child: &mut Child) -> i32 {
    wait_until(child, "it ends", |child| child.try_wait().expect("a child").is_some());
    child.wait().expect("a child").code().expect("no signal")
}

/// Hundredths of a second that the program has computed for.
fn busy(child: &Child) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it runs");
    let fields = stat.rsplit_once(')').expect("stat(5)").1;
    fields.split_whitespace().nth(11).and_then(|field| field.parse().ok()).expect("utime")
}

#[test]
fn help_shows_examples_and_the_exit_codes() {
    let (code, out, err) = ended(&["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("Examples:\n") && out.contains("Exit codes: 0 "), "{out}");
}

#[test]
fn wrong_arguments_are_refused_with_what_would_be_right() {
    for (args, said) in [
        (&["--seeds", "5..3"][..], "FIRST must be below LAST"),
        (&["--seeds", "3..3"], "FIRST must be below LAST"),
        (&["--seeds", "x"], "it is FIRST..LAST, as in 0..60; one seed is --seed N"),
        (&["--seeds", "7"], "it is FIRST..LAST, as in 0..60; one seed is --seed N"),
        (&["--seeds", "0..x"], "\"x\" is not a number from 0 to "),
        (&["--seeds", "-1..3"], "\"-1\" is not a number from 0 to "),
        (&["--seeds", "0..99999999999999999999"], "\"99999999999999999999\" is not a number from 0 to "),
        (&["--seed", "x"], "invalid digit"),
        (&["--seed", "-3"], "invalid digit"),
        (&["--minutes", "-1"], "more than 0 and at most 10080"),
        (&["--minutes", "0"], "more than 0 and at most 10080"),
        (&["--minutes", "nan"], "more than 0 and at most 10080"),
        (&["--minutes", "inf"], "more than 0 and at most 10080"),
        (&["--minutes", "1e300"], "more than 0 and at most 10080"),
        (&["--minutes", "long"], "it is a number, as in 0.5 or 60"),
        (&["--trace"], "--seed <N>"),
        (&["--shrink"], "--seed <N>"),
        (&["--seed", "1", "--minutes", "1"], "cannot be used with '--minutes <M>'"),
        (&["--seed", "1", "--seeds", "0..2"], "cannot be used with '--seeds <FIRST..LAST>'"),
        (&["--seed", "1", "--trace", "-o", "json"], "leave out -o json"),
    ] {
        let (code, out, err) = ended(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains(said), "{args:?}: {err}");
    }
}

#[test]
fn seeds_come_to_the_same_in_every_form() {
    let both = json(&["--seeds", "1..3"]);
    let alone = [json(&["--seed", "1"]), json(&["--seed", "2", "--once"])];
    for sum in ["seeds", "operations", "acknowledged", "delivered"] {
        let of = |value: &Value| value[sum].as_u64().expect("a number");
        assert_eq!(of(&both), alone.iter().map(of).sum::<u64>(), "{sum}");
        assert_ne!(of(&both), 0, "{sum}");
    }
    assert_eq!((&both["first_seed"], &both["last_seed"]), (&1.into(), &2.into()));
    assert_eq!((&both["failed"], &both["interrupted"]), (&0.into(), &false.into()));

    let (code, out, err) = ended(&["--seeds", "1..3", "--once"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (operations, delivered) = (&both["operations"], &both["delivered"]);
    assert!(out.starts_with(&format!("2 seeds (1 to 2), 0 failed; {operations} operations, ")), "{out}");
    assert!(out.contains(&format!(" {delivered} delivered; ")), "{out}");
}

#[test]
fn time_that_is_over_ends_named_seeds_too() {
    let some = json(&["--seeds", "1..10000", "--minutes", "0.0001", "--once"]);
    assert_eq!(
        (&some["seeds"], &some["first_seed"]),
        (&1.into(), &1.into()),
        "it ends behind the seed at hand"
    );
}

#[test]
fn the_last_of_all_seeds_is_one() {
    let largest = u64::MAX.to_string();
    assert_eq!(json(&["--seed", &largest, "--once"])["seeds"], 1);
}

#[test]
fn what_does_not_fail_is_not_made_shorter() {
    let (code, out, err) = ended(&["--seed", "1", "--once", "--shrink"]);
    assert_eq!((code, err.as_str()), (0, "it did not fail: there is nothing to make shorter\n"), "{out}");
}

#[test]
fn a_trace_whose_reader_has_gone_ends_quietly() {
    let mut child = program(&["--seed", "1", "--trace"]).spawn().expect("the program runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!(line, "Plan {\n");
    assert_eq!(exit_code(&mut child), 0);
    let mut err = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    // What the simulated server logs goes there, and nothing else does.
    let is_logged = |line: &str| line.starts_with("20") && line.contains("Z ");
    assert!(err.lines().all(is_logged), "{err}");
}

#[test]
fn an_interrupted_program_says_what_it_came_to() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = program(&["--seeds", "0..1000000", "-o", "json"]).spawn().expect("it runs");
        wait_until(&mut child, "it works", |child| busy(child) >= 20);
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
        assert_eq!(exit_code(&mut child), code, "SIG{signal}");
        let came_to: Value = serde_json::from_reader(child.stdout.take().expect("piped")).expect("JSON");
        assert_eq!((&came_to["interrupted"], &came_to["first_seed"]), (&true.into(), &0.into()), "{came_to}");
        assert!(came_to["seeds"].as_u64() > Some(0), "{came_to}");
    }
}

#[test]
fn a_known_bug_is_found() {
    let (code, out, err) = ended(&["--mutation", "gap-short"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("gap-short ") && out.contains("found by seed "), "{out}");
    let found = json(&["--mutation", "gap-short"]);
    assert_eq!(found["bugs"][0]["bug"], "gap-short");
    assert_eq!(found["unfound"].as_array().map(Vec::len), Some(0));
    let (code, _, err) = ended(&["--mutation", "no-such-bug"]);
    assert!(code == 2 && err.contains("known are all, and\n  skip-rearm"), "{code} {err}");
}
