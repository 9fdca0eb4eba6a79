use super::pace::{NEVER, Pace};

/// Beyond every time of these tests.
const LATER: u64 = 1 << 60;

/// Times of the first `turns` batches of every connection, in order, from 0.
fn times(pace: &Pace, connections: usize, turns: u64) -> Vec<u64> {
    let all = (0..turns).flat_map(|turn| (0..connections).map(move |index| (turn, index)));
    all.map(|(turn, index)| pace.due_ns(index, turn).expect("timed")).collect()
}

#[test]
fn batches_are_due_at_equal_distances_over_all_connections() {
    let pace = Pace::timed((1_000_000, LATER), 50_000, 1, 4);
    let due = times(&pace, 4, 250);
    assert_eq!(due[0], 1_000_000);
    assert!(due.windows(2).all(|pair| pair[1] - pair[0] == 20_000), "20 us apart");
    // A batch of several records is due as often as its records make the rate.
    let pace = Pace::timed((0, LATER), 1_000_000, 25, 16);
    let due = times(&pace, 16, 2_500);
    assert_eq!(due[due.len() - 1] + 25_000, 1_000_000_000, "40,000 batches are a second");
}

#[test]
fn times_stay_exact_over_days() {
    // Three days after a start of the host ten days ago.
    let begin = 10 * 86_400 * 1_000_000_000;
    let pace = Pace::timed((begin, LATER), 300_000, 1, 2_000);
    let turn = 3 * 86_400 * 300_000 / 2_000;
    let due = pace.due_ns(0, turn).expect("timed");
    assert!(due.abs_diff(begin + 3 * 86_400 * 1_000_000_000) < 1_000, "within a microsecond: {due}");
}

#[test]
fn nothing_is_due_from_the_end_on() {
    let pace = Pace::timed((1_000, 2_000), 1_000_000_000 / 100, 1, 2);
    assert_eq!(times(&pace, 2, 4), [1_000, 1_100, 1_200, 1_300, 1_400, 1_500, 1_600, 1_700]);
    assert_eq!((pace.due_ns(1, 4), pace.due_ns(0, 5)), (Some(1_900), Some(NEVER)));
}

#[test]
fn without_a_rate_there_are_no_times() {
    assert_eq!(Pace::AtWill.due_ns(0, 0), None);
    assert_eq!(Pace::Turn.due_ns(3, 9), None);
}
