//! Who takes part, in which order, and what the rounds come to.

use std::cell::RefCell;
use std::fs::Permissions;

use super::*;
use crate::outcome::sample;
use crate::scenario::{Overrides, Scenario};

fn work(scenario: &str) -> Work {
    let scenario = Scenario::find(scenario).expect("a built-in scenario");
    scenario.work(&Overrides::default()).expect("as it is")
}

#[test]
fn who_is_not_installed_is_skipped_with_the_package() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = Some(folder.path().as_os_str());
    for (entrant, package) in
        [(Entrant::Nats, "nats-server"), (Entrant::Redis(RedisWay::Streams), "redis-server")]
    {
        let program = folder.path().join(package);
        let absent = entrant.absent(&work("ingest"), path).expect("an empty directory");
        assert_eq!((absent.entrant.as_str(), absent.package.as_deref()), (entrant.name(), Some(package)));
        assert!(absent.why.contains(&format!("apt-get install {package}")), "{}", absent.why);
        std::fs::write(&program, "").expect("a file");
        assert!(
            entrant.absent(&work("ingest"), path).is_some(),
            "a file that cannot be executed is no program"
        );
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("its own file");
        assert_eq!(entrant.absent(&work("ingest"), path), None);
        assert!(entrant.absent(&work("ingest"), None).is_some(), "without a PATH nothing is found");
    }
}

#[test]
fn who_cannot_do_the_work_is_skipped_with_the_reason() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = Some(folder.path().as_os_str());
    for (entrant, scenario, expected) in [
        (Entrant::Nats, "crossing", "no shards"),
        (Entrant::Redis(RedisWay::PubSub), "crossing", "no shards"),
        (Entrant::Limit(BareIo::Epoll), "crossing", "no limit"),
        (Entrant::Nats, "storm", "TLS"),
        (Entrant::Limit(BareIo::Epoll), "idle", "no limit"),
    ] {
        let absent = entrant.absent(&work(scenario), path).expect(scenario);
        assert!(absent.why.contains(expected) && absent.package.is_none(), "{absent:?}");
    }
    assert_eq!(Entrant::Limit(BareIo::Epoll).absent(&work("fanout"), path), None);
}

const TWO: [Entrant; 2] = [Entrant::Uringest, Entrant::Nats];

#[test]
fn rounds_measure_everybody_and_begin_with_another_each_time() {
    let turns = RefCell::new(Vec::new());
    let contest = hold("sample", TWO.to_vec(), Vec::new(), 3, |entrant, round| {
        turns.borrow_mut().push((round, entrant));
        let mut outcome = sample(if entrant == Entrant::Uringest { 10.0 } else { 20.0 + round as f64 }, None);
        outcome.warnings = vec!["a debug build".into()];
        Ok(outcome)
    });
    let contest = contest.expect("nobody breaks");
    let [a, b] = TWO;
    assert_eq!(turns.into_inner(), [(0, a), (0, b), (1, b), (1, a), (2, a), (2, b)]);
    let [own, nats] = &contest.entries[..] else { panic!("both have a line") };
    assert_eq!((own.entrant.as_str(), own.server_cpu_ns, own.over_uringest), ("uringest", 10.0, 1.0));
    assert_eq!((nats.server_cpu_ns, nats.over_uringest), (21.0, 2.1));
    let (low, high) = nats.interval.expect("three rounds");
    assert!((2.0..=2.1).contains(&low) && (2.1..=2.2).contains(&high), "{low} to {high}");
    assert_eq!(contest.warnings, ["uringest: a debug build", "NATS: a debug build"], "each once");
    assert_eq!(nats.rounds.len(), 3);
}

#[test]
fn who_breaks_is_skipped_and_the_others_go_on() {
    let breaks = |who: Entrant| {
        hold("sample", TWO.to_vec(), Vec::new(), 3, move |entrant, round| {
            if entrant == who && round == 1 {
                return Err(Failure::Unsupported("it fell over".into()));
            }
            Ok(sample(10.0, None))
        })
    };
    let contest = breaks(Entrant::Nats).expect("uringest is measured");
    assert_eq!(contest.entries.len(), 1);
    assert_eq!(contest.entries[0].rounds.len(), 3);
    let [skipped] = &contest.skipped[..] else { panic!("one is skipped") };
    assert_eq!((skipped.entrant.as_str(), skipped.why.as_str()), ("NATS", "it fell over"));
    assert!(breaks(Entrant::Uringest).is_err(), "without uringest there is nothing to compare with");
}
