//! What consumers have committed, and where those that resume have to begin.
//!
//! Of each name on each partition there is what the server may keep: the offset that was confirmed last, and each that was
//! asked for and not answered, as long as it may be on its way. A subscription that resumes begins at one of them, or
//! between them, within what the partition has.
//!
//! Commits are saved a little after they come (docs/operations.md): when a process ends in good order all of them are,
//! else what is kept may be older, but for what was replaced so long before that a save has come to its end since.

use std::collections::BTreeMap;
use std::ops::Range;

use super::oracle::Place;
use super::plan::MS;

/// What is confirmed is saved after so long, where nothing is in the way: the save before, its own wait and steps, each of
/// them slow.
const SAVED_NS: u64 = 2_000 * MS;

/// An offset that the server may keep.
#[derive(Debug)]
struct Possible {
    /// `None`: nothing was committed.
    offset: Option<u64>,
    /// It was asked for on this connection, and is not answered.
    asked_on: Option<u64>,
    /// Something else was confirmed in its place at this time. The disk may still have it.
    replaced_ns: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Commits {
    /// By consumer, which has one name for all its clients.
    possible: BTreeMap<(usize, Place), Vec<Possible>>,
    /// Connections that each consumer has had.
    connections: BTreeMap<usize, u64>,
    /// Nothing has kept control from saving since this time.
    undisturbed_ns: u64,
    /// The disk has lost what it had promised to keep: nothing is known any more.
    lied: bool,
}

impl Commits {
    fn of(&mut self, consumer: usize, place: Place) -> (u64, &mut Vec<Possible>) {
        let nothing = || vec![Possible { offset: None, asked_on: None, replaced_ns: None }];
        let connection = self.connections.get(&consumer).copied().unwrap_or(0);
        (connection, self.possible.entry((consumer, place)).or_insert_with(nothing))
    }

    /// A consumer's connection is over. What was asked for on it may still be on its way.
    pub fn parted(&mut self, consumer: usize) {
        *self.connections.entry(consumer).or_default() += 1;
    }

    /// A commit is asked for, or again, on a new connection.
    pub fn asked(&mut self, consumer: usize, place: Place, offset: u64) {
        let (connection, all) = self.of(consumer, place);
        all.push(Possible { offset: Some(offset), asked_on: Some(connection), replaced_ns: None });
    }

    /// A commit is confirmed. Answers on a connection are in the order of what was asked for there.
    pub fn confirmed(&mut self, consumer: usize, place: Place, offset: u64, now_ns: u64) {
        let saved_ns = self.saved_ns(now_ns);
        let (connection, all) = self.of(consumer, place);
        assert!(
            all.iter().any(|one| one.offset >= Some(offset)),
            "{offset} is confirmed to consumer {consumer} on {place:?}, which has asked for {all:?}"
        );
        let is_it = |one: &Possible| one.asked_on == Some(connection) && one.offset == Some(offset);
        let at = all.iter().position(is_it);
        for (number, one) in all.iter_mut().enumerate() {
            let before = one.asked_on == Some(connection) && at.is_some_and(|at| number < at);
            if before || one.asked_on.is_none() {
                one.asked_on = None;
                one.replaced_ns.get_or_insert(now_ns);
            }
        }
        match at {
            Some(at) => all[at].asked_on = None,
            // What was beyond the end is kept as the end.
            None => all.push(Possible { offset: Some(offset), asked_on: None, replaced_ns: None }),
        }
        forget(all, saved_ns);
    }

    /// Something keeps control from saving, until then.
    pub fn disturbed(&mut self, now_ns: u64, until_ns: u64) {
        self.forget_saved(now_ns);
        self.undisturbed_ns = self.undisturbed_ns.max(until_ns);
    }

    /// The process has ended: `well` when it says that everything is saved; `lied` when its disk has forgotten that.
    pub fn ended(&mut self, now_ns: u64, well: bool, lied: bool) {
        self.lied |= lied;
        self.forget_saved(now_ns);
        for all in self.possible.values_mut() {
            all.retain(|one| !well || one.replaced_ns.is_none());
            for one in all {
                // What is replaced may be what was saved; nothing is on its way any more.
                (one.asked_on, one.replaced_ns) = (None, None);
            }
        }
    }

    /// A consumer that resumes begins at `start` in a partition that has these offsets; without a commit it begins at
    /// `otherwise`.
    pub fn resumed(
        &mut self,
        consumer: usize,
        place: Place,
        (start, otherwise): (u64, u64),
        log: Range<u64>,
    ) {
        if self.lied {
            return;
        }
        let (_, all) = self.of(consumer, place);
        let current = || all.iter().filter(|one| one.replaced_ns.is_none());
        let within = |offset: u64| offset.clamp(log.start, log.end);
        let (least, most) =
            (current().filter_map(|one| one.offset).min(), current().filter_map(|one| one.offset).max());
        let is_committed =
            least.zip(most).is_some_and(|(least, most)| (within(least)..=within(most)).contains(&start));
        assert!(
            is_committed || start == otherwise && current().any(|one| one.offset.is_none()),
            "consumer {consumer} resumes at {start} on {place:?}, which has {log:?}: committed may be {all:?}"
        );
    }

    /// Up to when everything that was confirmed is surely saved.
    fn saved_ns(&self, now_ns: u64) -> Option<u64> {
        now_ns.checked_sub(SAVED_NS).filter(|at_ns| *at_ns >= self.undisturbed_ns)
    }

    fn forget_saved(&mut self, now_ns: u64) {
        let saved_ns = self.saved_ns(now_ns);
        self.possible.values_mut().for_each(|all| forget(all, saved_ns));
    }
}

/// What was replaced by then is not on the disk any more.
fn forget(all: &mut Vec<Possible>, saved_ns: Option<u64>) {
    if let Some(saved_ns) = saved_ns {
        all.retain(|one| one.replaced_ns.is_none_or(|at_ns| at_ns > saved_ns));
    }
}
