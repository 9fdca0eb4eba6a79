use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SLOT_NS: u64 = 1 << 17;

#[derive(Debug, Clone)]
enum Step {
    /// Index, and how long after (or, when negative, before) now.
    Set(u32, i64),
    Cancel(u32),
    /// Let that much time pass and expire.
    Pass(u64),
    /// Let time pass until the wheel's next deadline and expire.
    PassToNext,
}

/// Durations of every size: within a slot, and up to beyond the fourth level.
fn duration() -> impl Strategy<Value = u64> {
    (0u32..46, any::<u64>()).prop_map(|(bits, noise)| noise & ((1 << bits) - 1))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..12, duration())
            .prop_map(|(index, after)| Step::Set(index, i64::try_from(after).expect("46 bits"))),
        1 => (0u32..12, 0i64..1_000_000).prop_map(|(index, before)| Step::Set(index, -before)),
        1 => (0u32..12).prop_map(Step::Cancel),
        3 => duration().prop_map(Step::Pass),
        2 => Just(Step::PassToNext),
    ]
}

/// Expires both and compares; the model is a map from index to deadline.
fn expire(wheel: &mut TimerWheel, model: &mut BTreeMap<u32, u64>, now: u64) -> Result<(), TestCaseError> {
    let mut due = Vec::new();
    wheel.expire(now, |index| due.push(index));
    due.sort_unstable();
    let expected: Vec<u32> = model.iter().filter(|&(_, &at)| at <= now).map(|(&index, _)| index).collect();
    model.retain(|_, at| *at > now);
    prop_assert_eq!(due, expected, "due at {}", now);
    if let Some(next) = wheel.next_deadline() {
        prop_assert!(next > now || !model.is_empty());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_wheel_is_a_map_of_deadlines(
        start in prop_oneof![Just(0u64), any::<u64>().prop_map(|n| n >> 2)],
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut now = start;
        let mut wheel = TimerWheel::new(12);
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Set(index, after) => {
                    let at = now.saturating_add_signed(after);
                    wheel.set(index, at);
                    model.insert(index, at);
                }
                Step::Cancel(index) => {
                    wheel.cancel(index);
                    model.remove(&index);
                }
                Step::Pass(by) => {
                    now += by;
                    expire(&mut wheel, &mut model, now)?;
                }
                Step::PassToNext => {
                    let Some(next) = wheel.next_deadline() else { continue };
                    now = now.max(next);
                    expire(&mut wheel, &mut model, now)?;
                    // Whoever waits until then does not wake for nothing twice.
                    prop_assert!(wheel.next_deadline().is_none_or(|after| after > now));
                }
            }
            prop_assert_eq!(wheel.len(), model.len());
            prop_assert_eq!(wheel.is_empty(), model.is_empty());
            for index in 0..12 {
                prop_assert_eq!(wheel.deadline(index), model.get(&index).copied());
            }
            let soonest = model.values().min().copied();
            prop_assert_eq!(wheel.next_deadline().is_some(), soonest.is_some());
            if let (Some(next), Some(soonest)) = (wheel.next_deadline(), soonest) {
                prop_assert!(next <= soonest, "{} is later than {}", next, soonest);
            }
        }
        // Everything comes due in the end, exactly at its time.
        while let Some(&soonest) = model.values().min() {
            if soonest > now {
                expire(&mut wheel, &mut model, soonest - 1)?;
            }
            now = now.max(soonest);
            expire(&mut wheel, &mut model, now)?;
        }
        prop_assert!(wheel.is_empty() && wheel.next_deadline().is_none());
    }
}

#[test]
fn next_deadline_is_exact_without_cancels() {
    let mut wheel = TimerWheel::new(4);
    assert_eq!(wheel.next_deadline(), None);
    for (index, at) in [(0, 120 * NS_PER_SECOND), (1, 5 * NS_PER_MS), (2, 5 * NS_PER_MS - 1), (3, u64::MAX)] {
        wheel.set(index, at);
    }
    assert_eq!(wheel.next_deadline(), Some(5 * NS_PER_MS - 1));
    wheel.expire(5 * NS_PER_MS - 1, |index| assert_eq!(index, 2));
    assert_eq!(wheel.next_deadline(), Some(5 * NS_PER_MS));
    wheel.expire(5 * NS_PER_MS, |index| assert_eq!(index, 1));
    assert_eq!(wheel.next_deadline(), Some(120 * NS_PER_SECOND));
    wheel.expire(120 * NS_PER_SECOND, |index| assert_eq!(index, 0));
    assert_eq!(wheel.next_deadline(), Some(u64::MAX));
    wheel.expire(u64::MAX, |index| assert_eq!(index, 3));
    assert!(wheel.is_empty());
}

#[test]
fn popped_indexes_may_be_set_again_at_once() {
    let mut wheel = TimerWheel::new(3);
    let now = 10 * SLOT_NS + 5;
    for index in 0..3 {
        wheel.set(index, now - u64::from(index));
    }
    let mut popped = Vec::new();
    while let Some(index) = wheel.pop_due(now) {
        popped.push(index);
        wheel.set(index, now + 1);
        if popped.len() == 1 {
            let other = (0..3).find(|other| *other != index).expect("there are three");
            wheel.cancel(other); // found due already, and taken back
        }
    }
    assert_eq!(popped.len(), 2);
    assert_eq!((wheel.len(), wheel.next_deadline()), (2, Some(now + 1)));
}

#[test]
fn a_clock_that_goes_back_fires_nothing_early_and_loses_nothing() {
    let mut wheel = TimerWheel::new(2);
    let late = 1000 * SLOT_NS;
    wheel.expire(late, |_| panic!("nothing is set"));
    wheel.set(0, late - 100 * SLOT_NS);
    wheel.set(1, late + 1);
    wheel.expire(late - 200 * SLOT_NS, |_| panic!("neither is due yet"));
    let mut due = Vec::new();
    wheel.expire(late, |index| due.push(index));
    wheel.expire(late + 1, |index| due.push(index));
    assert_eq!(due, [0, 1]);
}

#[test]
fn times_are_read_and_written() {
    let now = 1_795_226_400 * NS_PER_SECOND;
    let cases = [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-21T02:00:00Z", now),
        ("2026-11-21t02:00:00z", now),
        ("2026-11-21 02:00:00Z", now),
        ("2026-11-21T03:30:00+01:30", now),
        ("2026-11-20T21:00:00-05:00", now),
        ("2026-11-21T02:00:00.5Z", now + 500 * NS_PER_MS),
        ("2026-11-21T02:00:00.000000001Z", now + 1),
        ("2000-02-29T23:59:60Z", 951_868_800 * NS_PER_SECOND),
        ("@1795226400", now),
        ("@1795226400.25", now + 250 * NS_PER_MS),
        ("-5m", now - 300 * NS_PER_SECOND),
        ("-0s", now),
        ("-2d", now - 172_800 * NS_PER_SECOND),
        ("-7us", now - 7 * NS_PER_US),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_time(text, now), Some(expected), "{text}");
    }
}

#[test]
fn what_is_not_a_time_is_refused() {
    let now = 1_795_226_400 * NS_PER_SECOND;
    let bad = [
        "",
        "earliest",
        "12",
        "@",
        "@-1",
        "@+1",
        "@1.",
        "@1.0123456789",
        "@99999999999999",
        "-",
        "-5",
        "-5y",
        "--5m",
        "-99999d",
        "-18446744073709551615d",
        "2026-11-21",
        "2026-11-21T02:00:00",
        "2026-13-21T02:00:00Z",
        "2026-02-29T02:00:00Z",
        "1900-02-29T02:00:00Z",
        "2026-11-00T02:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T02:60:00Z",
        "2026-11-21T02:00:61Z",
        "2026-11-21T02:00:00.Z",
        "2026-11-21T02:00:00.5",
        "2026-11-21T02:00:00+1:00",
        "2026-11-21T02:00:00+24:00",
        "2026-11-21T02:00:00Zx",
        "2026-11-21T02:00:0éZ",
        "+026-11-21T02:00:00Z",
        "1969-12-31T23:59:59Z",
        "2999-01-01T00:00:00Z",
    ];
    for text in bad {
        assert_eq!(parse_time(text, now), None, "{text}");
    }
}

#[test]
fn decimals_are_as_many_as_needed() {
    let cases = [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (20_000, "1970-01-01T00:00:00.000020Z"),
        (300_000_000, "1970-01-01T00:00:00.300Z"),
        (951_782_400 * NS_PER_SECOND, "2000-02-29T00:00:00Z"),
        (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
    ];
    for (wall_ns, expected) in cases {
        assert_eq!(format_utc(wall_ns), expected);
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(wall_ns: u64) {
        prop_assert_eq!(parse_time(&format_utc(wall_ns), 0), Some(wall_ns));
    }

    #[test]
    fn no_text_panics(text in "[-@0-9T:.+Zzmé ]{0,32}", now: u64) {
        let _ = parse_time(&text, now);
    }
}
