//! The comparison, and the reading of callgrind's files.

use std::path::Path;

use super::figures::{Figures, Verdict};
use super::profile::dump;
use super::{Count, CountedOn, compare};
use crate::pieces;

fn on() -> CountedOn {
    CountedOn {
        processor: "x86_64 sse4.2".into(),
        checksum: "x86-sse-pclmulqdq".into(),
        rustc: "1.95.0".into(),
        libc: "glibc 2.36".into(),
        valgrind: "3.19.0".into(),
    }
}

/// Every piece takes this many.
fn counts(instructions: u64) -> Vec<Count> {
    pieces::all().map(|piece| Count { name: piece.name.into(), instructions }).collect()
}

fn committed() -> Figures {
    Figures::none().accepting(&counts(1_000), on())
}

fn compared(counts: &[Count], on: &CountedOn) -> (String, bool) {
    compare(&committed(), counts, on, Path::new("bench/instructions.toml"))
}

#[test]
fn figures_are_read_as_they_were_written() {
    let text = committed().to_toml();
    assert_eq!(Figures::parse(&text).expect("a file of its own making"), committed());
    assert!(text.contains("mesh_by_64 = { instructions = 1000, tolerance_percent = 3.0 }"), "{text}");
    assert!(Figures::parse("[pieces]\nx = { instructions = 1 }").is_err(), "a tolerance is always stated");
}

#[test]
fn a_tolerance_that_was_set_stays() {
    let text = committed().to_toml().replace(
        "mesh_by_64 = { instructions = 1000, tolerance_percent = 3.0 }",
        "mesh_by_64 = { instructions = 1000, tolerance_percent = 8.5 }",
    );
    let again = Figures::parse(&text).expect("figures").accepting(&counts(2_000), on());
    let figure = again.of("mesh_by_64").expect("there");
    assert_eq!((figure.instructions, figure.tolerance_percent), (2_000, 8.5));
}

#[test]
fn within_the_tolerance_is_the_same() {
    for instructions in [970, 1_000, 1_030] {
        let (text, fine) = compared(&counts(instructions), &on());
        assert!(fine && !text.contains("accept"), "{text}");
    }
}

#[test]
fn more_fails_and_says_what_to_do() {
    let mut all = counts(1_000);
    all[3].instructions = 1_031;
    let (text, fine) = compared(&all, &on());
    assert!(!fine);
    let line = text.lines().find(|line| line.starts_with(&all[3].name)).expect("its line");
    for part in ["1000", "1031", "1.031", "1.030", "MORE by 3.1 %"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(text.contains("cargo run --release -p uringest-bench -- instructions --accept\n"), "{text}");
}

#[test]
fn fewer_is_fine_and_worth_accepting() {
    let (text, fine) = compared(&counts(900), &on());
    assert!(fine && text.contains("fewer by 10.0 %") && text.contains("--accept"), "{text}");
}

#[test]
fn a_piece_without_a_figure_and_a_figure_without_a_piece_fail() {
    let mut all = counts(1_000);
    all.push(Count { name: "novel".into(), instructions: 5 });
    let (text, fine) = compared(&all, &on());
    assert!(!fine && text.contains("NEW"), "{text}");
    let (text, fine) = compared(&counts(1_000)[1..], &on());
    assert!(!fine && text.contains("frame_header: no such piece any more"), "{text}");
}

#[test]
fn another_compiler_widens_the_tolerance_and_says_so() {
    let other = CountedOn { rustc: "1.99.0".into(), ..on() };
    let (text, fine) = compared(&counts(1_140), &other);
    assert!(fine && text.contains("rustc 1.95.0, this is 1.99.0: tolerances are 5 times as wide"), "{text}");
    assert!(!compared(&counts(1_160), &other).1);
    for other in [CountedOn { libc: "x".into(), ..on() }, CountedOn { valgrind: "x".into(), ..on() }] {
        assert!(compared(&counts(1_140), &other).1);
    }
}

#[test]
fn another_processor_is_skipped_and_says_so() {
    for other in
        [CountedOn { processor: "aarch64".into(), ..on() }, CountedOn { checksum: "none".into(), ..on() }]
    {
        let other = CountedOn { rustc: "x".into(), ..other };
        let (text, fine) = compared(&counts(9_000), &other);
        assert!(fine && text.contains("SKIPPED") && text.contains("other code runs there"), "{text}");
    }
}

#[test]
fn verdicts_compare_shares() {
    let verdict = |instructions| committed().verdict(&Count { name: "mesh_by_64".into(), instructions }, 1.0);
    assert_eq!(verdict(1_000), Verdict::Same);
    assert_eq!(verdict(2_000), Verdict::More { ratio: 2.0 });
    assert_eq!(verdict(500), Verdict::Fewer { ratio: 0.5 });
}

#[test]
fn a_dump_is_read_by_its_name() {
    let text = "# callgrind format\nversion: 1\ndesc: Trigger: Client Request: mesh_by_64#1\n\nevents: Ir\n\
                summary: 4711\n\nfn=(1) x\n1 4711\n\ntotals: 4711\n";
    assert_eq!(dump(text), Some(("mesh_by_64#1".into(), 4_711)));
    assert_eq!(dump("desc: Trigger: Program termination\ntotals: 3\n"), None);
    assert_eq!(dump("desc: Trigger: Client Request: x\n"), None);
}

/// The committed file is one, and has a figure for each piece of the usual build.
#[cfg(feature = "epoll")]
#[test]
fn the_committed_figures_are_whole() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml");
    let figures = Figures::read(&path).expect("the committed figures");
    for piece in pieces::all() {
        let figure = figures.of(piece.name).unwrap_or_else(|| panic!("no figure of {}", piece.name));
        assert!(figure.instructions > 100 && figure.tolerance_percent <= 10.0, "{figure:?}");
    }
    assert_eq!(figures.gone(&counts(1)), Vec::<String>::new());
}
