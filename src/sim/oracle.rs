//! What was promised, and what has been seen: every record that is published carries who published it and its number, and
//! each is followed from the producer's hand through acknowledgements to every consumer.
//!
//! The rules:
//! 1. A partition's offset holds the same record for whoever reads it, in one life of the server and, of a log, in all
//!    (but for what was visible and not durable when the power went).
//! 2. Of one producer on one partition, numbers only rise along the offsets; only where the client was told that batches
//!    may be there twice, or the server lost what it had only received, does a number come again.
//! 3. What an acknowledgement says lies at an offset is what is read there.
//! 4. A consumer gets each offset once, in order, or is told of the gap.
//! 5. A gap carries the reason that is true of its topic: the ring was full, what was in memory is gone, recovery has
//!    reported these very offsets as lost, or retention has taken them.
//! 6. What a consumer was given of a log is there at the end, if nothing has happened that its topic's durability is not
//!    good for.
//! 7. What was acknowledged at a level is there at the end if nothing has happened that the level is not good for.
//! 8. A consumer that resumes begins where it has committed ([`Commits`]).
//! 9. A partition's id is never another's, also when its topic is deleted and its name used again: what was acknowledged
//!    in the one topic is not in the other, and who reads the other reads all of it.
//!
//! 5 to 7 hold of what retention has left: where it may take something of a log, nothing before its start is looked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::commits::Commits;
use super::plan::TopicPlan;
use crate::proto::header::{AckLevel, GapReason};
use crate::topic::{Overflow, TopicKind};

/// A record's name: its producer and its number there.
pub type Name = (u32, u64);

/// A partition: the topic's index, and the number in it. Of what nobody knows yet which of several topics of a name it
/// concerns: the index of the first of them.
pub type Place = (usize, u32);

/// What is known of one partition.
#[derive(Debug, Default)]
struct Known {
    /// The record at each offset, as somebody has read it.
    seen: BTreeMap<u64, Name>,
    /// The same records, as numbers by offset, of each producer.
    numbers: BTreeMap<u32, BTreeMap<u64, u64>>,
    /// The record at each offset, as an acknowledgement of that level has named it.
    named: BTreeMap<u64, (Name, AckLevel)>,
}

impl Known {
    /// Whether a producer's number lies, by its offset, between those that have been read around it.
    fn is_in_order(&self, offset: u64, (producer, number): Name) -> bool {
        let Some(numbers) = self.numbers.get(&producer) else { return true };
        let before = numbers.range(..offset).next_back();
        let after = numbers.range(offset + 1..).next();
        before.is_none_or(|(_, before)| *before < number) && after.is_none_or(|(_, after)| number < *after)
    }
}

/// What is known of one producer on one partition.
#[derive(Debug, Default)]
struct Published {
    /// Of the tickets that were acknowledged: at which level.
    acked: BTreeMap<u64, AckLevel>,
}

/// What one producer has taken for one partition, of whichever topic of the name.
#[derive(Debug, Default)]
struct Taken {
    /// By ticket: the record's number.
    tickets: Vec<u64>,
    /// Tickets that may be there twice: they were sent again under another producer id, and the client was told.
    twice: BTreeSet<u64>,
    /// Tickets that were acknowledged under the producer id that it has now, and where.
    remembered: Vec<(u64, Place)>,
}

impl Taken {
    /// Whether a record may be there twice.
    fn may_be_twice(&self, number: u64) -> bool {
        self.tickets.binary_search(&number).is_ok_and(|ticket| self.twice.contains(&(ticket as u64)))
    }
}

/// What the disk is like.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk {
    /// Syncs make nothing durable.
    pub syncs_lie: bool,
}

/// What a topic is like.
#[derive(Debug, Clone, Copy)]
struct Like {
    /// The first topic of its name.
    first: usize,
    kind: TopicKind,
    overflow: Overflow,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Oracle {
    topics: Vec<Like>,
    /// By the server's id.
    partitions: BTreeMap<u32, Place>,
    known: BTreeMap<Place, Known>,
    published: BTreeMap<(u32, Place), Published>,
    /// By the first topic of the name.
    taken: BTreeMap<(u32, Place), Taken>,
    /// Behind what a partition that is kept in memory has had before the server's last start: no offset is used again.
    floors: BTreeMap<Place, u64>,
    /// Acknowledged tickets that a crash may have taken: what its level was not good for.
    excused: BTreeSet<(u32, Place, u64)>,
    /// Partitions that may have lost what consumers had seen.
    forgotten: BTreeSet<Place>,
    /// Where a log has begun, at most, of which retention takes something.
    starts: BTreeMap<Place, u64>,
    /// Offsets that recovery has reported as lost.
    lost: BTreeMap<Place, Vec<Range<u64>>>,
    disk: Disk,
    /// The disk was full: clients may have been told so, and what producers had stored in segments that went for room may
    /// be forgotten.
    pub was_full: bool,
    /// Reads that have failed, and that no consumer was told of yet.
    unread: u64,
    /// Offsets that consumers have committed.
    pub commits: Commits,
    /// Records that consumers were given.
    pub delivered: u64,
    /// Records that were acknowledged.
    pub acknowledged: u64,
}

impl Oracle {
    /// Knows nothing yet but what the topics are like.
    pub fn new(disk: Disk, topics: &[TopicPlan]) -> Oracle {
        let like = |of: &TopicPlan| Like { first: of.first, kind: of.kind, overflow: of.overflow };
        Oracle { disk, topics: topics.iter().map(like).collect(), ..Oracle::default() }
    }

    /// The server has a partition under this id.
    pub fn partition_is(&mut self, id: u32, place: Place) {
        let before = self.partitions.insert(id, place);
        assert!(
            before.is_none_or(|before| before == place) || self.disk.syncs_lie,
            "partition id {id} is {place:?}'s, and was {before:?}'s"
        );
    }

    /// The partition of this id.
    pub fn place(&self, id: u32) -> Place {
        *self.partitions.get(&id).unwrap_or_else(|| panic!("no partition has ever had the id {id}"))
    }

    /// The same partition of the first topic of the name.
    pub fn named(&self, (topic, partition): Place) -> Place {
        (self.topics[topic].first, partition)
    }

    /// A producer's record has got its ticket.
    pub fn took(&mut self, producer: u32, place: Place, ticket: u64, number: u64) {
        let taken = self.taken.entry((producer, self.named(place))).or_default();
        assert_eq!(taken.tickets.len() as u64, ticket, "tickets of {producer} on {place:?} are in order");
        taken.tickets.push(number);
    }

    /// A range of tickets is acknowledged, and where that was said the first one's offset.
    pub fn acked(
        &mut self,
        producer: u32,
        place: Place,
        tickets: Range<u64>,
        (offset, level): (Option<u64>, AckLevel),
    ) {
        let named = self.named(place);
        let published = self.published.entry((producer, place)).or_default();
        self.acknowledged += tickets.end - tickets.start;
        for ticket in tickets.clone() {
            published.acked.insert(ticket, level);
        }
        let taken = self.taken.get_mut(&(producer, named)).expect("what was taken is acknowledged");
        taken.remembered.extend(tickets.clone().map(|ticket| (ticket, place)));
        let Some(first) = offset else { return };
        let known = self.known.entry(place).or_default();
        for (offset, ticket) in (first..).zip(tickets) {
            let name = (producer, taken.tickets[usize::try_from(ticket).expect("few")]);
            let (before, _) = *known.named.entry(offset).or_insert((name, level));
            let read = known.seen.get(&offset).is_none_or(|read| *read == name);
            assert!(
                before == name && read,
                "{place:?} {offset}: {name:?} is acknowledged, and another is there"
            );
        }
    }

    /// The client was told that what is unacknowledged is sent under another producer id, and may come twice.
    pub fn renumbered(&mut self, producer: u32, place: Place) {
        let named = self.named(place);
        let all = self.published.iter().filter(|((of, at), _)| *of == producer && self.named(*at) == named);
        let acked: BTreeSet<u64> = all.flat_map(|(_, published)| published.acked.keys().copied()).collect();
        let may_forget = self.may_forget();
        let taken = self.taken.entry((producer, named)).or_default();
        let kept = |(ticket, of): &(u64, Place)| !self.excused.contains(&(producer, *of, *ticket));
        let is_known = self.topics[place.0].kind == TopicKind::Log && taken.remembered.iter().any(kept);
        let others = self.topics.iter().filter(|like| like.first == named.0).count() > 1;
        assert!(
            !is_known || others || may_forget,
            "{place:?} has what producer {producer} has published, and has forgotten the producer"
        );
        taken.remembered.clear();
        let end = taken.tickets.len() as u64;
        taken.twice.extend((0..end).filter(|ticket| !acked.contains(ticket)));
    }

    /// The process has ended without a word. `survives` says which levels of a topic's acknowledgements outlive that.
    pub fn crashed(&mut self, survives: impl Fn(usize, AckLevel) -> bool, forgotten: impl Fn(Place) -> bool) {
        for ((producer, place), published) in &mut self.published {
            let lost = published.acked.iter().filter(|(_, level)| !survives(place.0, **level));
            self.excused.extend(lost.map(|(&ticket, _)| (*producer, *place, ticket)));
        }
        let lost: Vec<Place> = self.known.keys().copied().filter(|place| forgotten(*place)).collect();
        for place in lost.iter().filter(|place| self.topics[place.0].kind != TopicKind::Log) {
            let known = &self.known[place];
            let last = known.seen.keys().chain(known.named.keys()).max();
            let floor = self.floors.entry(*place).or_default();
            *floor = last.map_or(*floor, |last| last + 1).max(*floor);
        }
        self.known.retain(|place, _| !forgotten(*place));
        for (place, known) in &mut self.known {
            known.named.retain(|_, (_, level)| survives(place.0, *level));
        }
        self.forgotten.extend(lost);
    }

    /// A consumer's partition ends before what it has seen of it.
    pub fn rewound(&self, place: Place, seen: u64) {
        assert!(self.forgotten.contains(&place), "{place:?} ends before offset {seen}, which was delivered");
    }

    /// Recovery has told these offsets to be lost.
    pub fn reported(&mut self, place: Place, offsets: Range<u64>) {
        self.lost.entry(place).or_default().push(offsets);
    }

    /// Whether what became of a batch may be forgotten although later ones of its producer are known.
    pub fn may_forget(&self) -> bool {
        self.disk.syncs_lie || self.was_full
    }

    /// Whether what syncs had made durable is not all there.
    pub fn disk_lies(&self) -> bool {
        self.disk.syncs_lie
    }

    /// Whether recovery has told all of these offsets to be lost.
    fn is_lost(&self, place: Place, offsets: Range<u64>) -> bool {
        self.lost.get(&place).is_some_and(|lost| covers(lost, &offsets))
    }

    /// The disk has not given back what it was to read.
    pub fn read_failed(&mut self) {
        self.unread += 1;
    }

    /// A consumer was told that it does not get these offsets.
    pub fn missed(&mut self, place: Place, offsets: Range<u64>, reason: Option<GapReason>) {
        let Like { kind, overflow, .. } = self.topics[place.0];
        let is_true = match reason {
            Some(GapReason::Overflow) => kind != TopicKind::Log && overflow == Overflow::DropOldest,
            // What the ring no longer has, and no log but where its retention has taken it. A lying disk may have lost
            // the front of one: nothing tells that from segments that were deleted.
            Some(GapReason::Retention) => {
                kind != TopicKind::Log || self.disk.syncs_lie || offsets.end <= self.start(place)
            }
            Some(GapReason::Restart) => kind != TopicKind::Log,
            Some(GapReason::Quarantined) => {
                // Recovery takes a snapshot's word for what is before it: what a lying disk lost there is found by readers.
                let lost =
                    self.disk.syncs_lie && kind == TopicKind::Log || self.is_lost(place, offsets.clone());
                // What a disk does not give back when it is read is passed over, too: once, by whom it was read for.
                let unread = !lost && kind == TopicKind::Log && self.unread > 0;
                self.unread -= u64::from(unread);
                lost || unread
            }
            None => false,
        };
        assert!(
            is_true,
            "{place:?} {kind:?} {overflow:?}: {offsets:?} are missed, it is said, for {reason:?}"
        );
    }

    /// A log's retention has taken what is before this offset.
    pub fn retired(&mut self, place: Place, before: u64) {
        let start = self.starts.entry(place).or_default();
        *start = before.max(*start);
    }

    /// What is before may have gone by retention.
    fn start(&self, place: Place) -> u64 {
        self.starts.get(&place).copied().unwrap_or(0)
    }

    /// Somebody has read a record.
    pub fn read(&mut self, place: Place, offset: u64, name: Name) {
        self.delivered += 1;
        let floor = self.floors.get(&place).copied().unwrap_or(0);
        assert!(offset >= floor || self.disk.syncs_lie, "{place:?} uses {offset} again, before {floor}");
        let known = self.known.entry(place).or_default();
        let before = *known.seen.entry(offset).or_insert(name);
        assert_eq!(before, name, "{place:?} has the same record at offset {offset} for everybody");
        let named = known.named.get(&offset).is_none_or(|(named, _)| *named == name);
        assert!(named, "{place:?} {offset}: {name:?} is there, and another was acknowledged");
        self.assert_of_this(place, offset, name);
        let named = self.named(place);
        let known = self.known.entry(place).or_default();
        let twice = self.taken.get(&(name.0, named)).is_some_and(|taken| taken.may_be_twice(name.1));
        assert!(
            twice || known.is_in_order(offset, name),
            "{place:?} {offset}: record {} of producer {} is there twice or out of order",
            name.1,
            name.0
        );
        known.numbers.entry(name.0).or_default().insert(offset, name.1);
    }

    /// What was acknowledged in another topic of the name is in that one alone.
    fn assert_of_this(&self, place: Place, offset: u64, (producer, number): Name) {
        let named = self.named(place);
        let others = (0..self.topics.len())
            .filter(|other| *other != place.0 && self.topics[*other].first == named.0)
            .filter_map(|other| Some((other, self.published.get(&(producer, (other, place.1)))?)));
        for (other, published) in others {
            let ticket = self.taken[&(producer, named)].tickets.binary_search(&number);
            let acked = ticket.is_ok_and(|ticket| published.acked.contains_key(&(ticket as u64)));
            assert!(
                !acked,
                "{place:?} {offset}: record {number} of producer {producer} was acknowledged in topic {other}"
            );
        }
    }

    /// Everything a log's partition holds, in order of offsets, read by one who was given all of it.
    pub fn audit(&self, place: Place, records: &[(u64, Name)]) {
        let mut first: BTreeMap<u32, u64> = BTreeMap::new();
        // Retention goes on while all is read: what it has taken since says nothing of what follows.
        for &(_, (producer, number)) in records.iter().filter(|(offset, _)| *offset >= self.start(place)) {
            first.entry(producer).or_insert(number);
        }
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        let mut there: BTreeSet<Name> = BTreeSet::new();
        for &(offset, (producer, number)) in records {
            let taken = self.taken.get(&(producer, self.named(place)));
            let taken =
                taken.unwrap_or_else(|| panic!("{place:?} {offset}: nobody published {producer}/{number}"));
            let again = last.insert(producer, number).is_some_and(|last| last >= number);
            let fresh = there.insert((producer, number));
            assert!(
                fresh && !again || taken.may_be_twice(number),
                "{place:?} {offset}: record {number} of producer {producer} is there twice or out of order"
            );
        }
        if let Some(known) = self.known.get(&place) {
            let at: BTreeMap<u64, Name> = records.iter().copied().collect();
            for (offset, name) in known.seen.range(self.start(place)..) {
                let now = at.get(offset);
                assert!(
                    now == Some(name) || self.is_lost(place, *offset..offset + 1),
                    "{place:?} {offset}: somebody was given {name:?}, and it is {now:?} now"
                );
            }
        }
        let named = self.known.get(&place).map(|known| &known.named);
        let offsets: BTreeMap<Name, u64> =
            named.into_iter().flatten().map(|(&offset, &(name, _))| (name, offset)).collect();
        for ((producer, of), published) in self.published.iter().filter(|((_, of), _)| *of == place) {
            let taken = &self.taken[&(*producer, self.named(place))];
            for (ticket, level) in &published.acked {
                let number = taken.tickets[usize::try_from(*ticket).expect("few")];
                // Where it was is not always told: then what its producer published later is all there is.
                let retired = match offsets.get(&(*producer, number)) {
                    Some(offset) => *offset < self.start(place),
                    None => self.start(place) > 0 && first.get(producer).is_none_or(|first| number < *first),
                };
                // What a lying disk has lost may be acknowledged again, of what a snapshot remembers.
                let lost = self.disk.syncs_lie
                    && offsets.get(&(*producer, number)).is_none_or(|&at| self.is_lost(place, at..at + 1));
                assert!(
                    there.contains(&(*producer, number))
                        || retired
                        || lost
                        || self.excused.contains(&(*producer, *of, *ticket)),
                    "{place:?}: record {number} of producer {producer} was acknowledged as {level:?} and is lost: at \
                     {:?}, of a log from {} on, in which the producer's first is {:?}",
                    offsets.get(&(*producer, number)),
                    self.start(place),
                    first.get(producer)
                );
            }
        }
    }
}

/// Whether each of these offsets is in one of the ranges.
fn covers(ranges: &[Range<u64>], offsets: &Range<u64>) -> bool {
    let mut at = offsets.start;
    while at < offsets.end {
        let Some(range) = ranges.iter().find(|range| range.contains(&at)) else { return false };
        at = range.end;
    }
    true
}
