//! Against every position, looked at one by one.

use super::*;

/// In order, with something between each two.
const HOLES: [(u64, u64); 4] = [(0, 3), (10, 12), (13, 14), (20, 30)];

fn holes() -> Holes {
    let mut holes = Holes::with_capacity(HOLES.len());
    HOLES.iter().for_each(|&(from, to)| holes.push(from, to));
    holes
}

fn is_in_one(position: u64) -> bool {
    HOLES.iter().any(|&(from, to)| (from..to).contains(&position))
}

#[test]
fn bytes_are_counted_over_holes() {
    let holes = holes();
    for start in (0..40).filter(|&start| !is_in_one(start) || HOLES.iter().any(|&(from, _)| from == start)) {
        let mut of_frames = (start..).filter(|&position| !is_in_one(position));
        let mut end = holes.over(start);
        for bytes in 0..30 {
            // Behind the last byte, on the near side of a hole.
            assert_eq!(holes.advance(start, bytes), end, "{bytes} bytes from {start} on");
            end = of_frames.next().expect("no last position") + 1;
        }
    }
}

#[test]
fn the_next_one_begins_at_a_position_or_behind_it_until_it_is_trimmed() {
    let mut holes = holes();
    for position in 0..40 {
        let next = HOLES.iter().find(|&&(from, _)| from >= position).map(|&(from, to)| Hole { from, to });
        assert_eq!(holes.next(position), next, "from {position} on");
    }
    for position in 0..40 {
        holes.trim(position);
        let oldest = HOLES.iter().find(|&&(_, to)| to > position).map(|&(from, to)| Hole { from, to });
        assert_eq!(holes.next(0), oldest, "what ends behind {position} stays");
    }
}
