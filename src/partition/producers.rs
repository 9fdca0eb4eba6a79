//! The deduplication table: which batches of each producer were accepted, and what became of them.
//!
//! A producer's sequences run from 1 without holes, each used up by an accepted batch or by a refusal for
//! good, so entry `sequence % DEDUP_WINDOW` of its window is that of the last `DEDUP_WINDOW` of them.
//! The table grows with the producers it sees, up to its bound; then the one whose channel was closed
//! longest ago gives up its place. The ids stand side by side, so that `open` searches them in order.

use super::Appended;
use crate::commit_log::{ProducerEntry, ProducerState};
use crate::limits::{DEDUP_WINDOW, PRODUCERS_PER_PARTITION};
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;

/// A producer's place in a partition's table, and a generation that tells a former tenant's handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProducerSlot(pub u32);

const INDEX_BITS: u32 = 16;
const _: () = assert!(PRODUCERS_PER_PARTITION <= 1 << INDEX_BITS);

impl ProducerSlot {
    fn new(index: usize, generation: u16) -> ProducerSlot {
        let index = u32::try_from(index).expect("the table is bounded");
        ProducerSlot((u32::from(generation) << INDEX_BITS) | index)
    }

    #[inline]
    fn index(self) -> usize {
        (self.0 & ((1 << INDEX_BITS) - 1)) as usize
    }

    #[inline]
    fn generation(self) -> u32 {
        self.0 >> INDEX_BITS
    }
}

/// A channel's producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedProducer {
    /// For every later call.
    pub slot: ProducerSlot,
    /// The sequence expected next; 1 for a producer that is not known.
    pub next_sequence: u64,
    /// The owner that had this producer open and may publish no more.
    pub fenced: Option<u64>,
}

/// Whether a batch is to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is the one expected next.
    New,
    /// It was accepted before.
    Duplicate {
        /// Of its first record.
        offset: u64,
        /// How many offsets it has.
        span: u32,
        /// When it was appended, ns since 1970, UTC.
        append_time_ns: u64,
    },
    /// It is not to be appended.
    Refused(Code),
}

/// What became of a sequence. A refused one has no records, and the code's number for a checksum.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Remembered {
    checksum: u32,
    span: u32,
    offset: u64,
    append_time_ns: u64,
}

impl Remembered {
    #[inline]
    pub(super) fn accepted(checksum: u32, appended: Appended, span: u32) -> Remembered {
        Remembered { checksum, span, offset: appended.offset, append_time_ns: appended.append_time_ns }
    }

    fn refused(code: Code) -> Remembered {
        Remembered { checksum: code as u32, ..Remembered::default() }
    }

    fn admission(&self, checksum: u32) -> Admission {
        if self.span == 0 {
            let code = u16::try_from(self.checksum).ok().and_then(Code::from_number);
            return Admission::Refused(code.unwrap_or(Code::SequenceTooOld));
        }
        if self.checksum != checksum {
            return Admission::Refused(Code::DuplicateMismatch);
        }
        Admission::Duplicate { offset: self.offset, span: self.span, append_time_ns: self.append_time_ns }
    }
}

/// What is known of a sequence that was used up before the log was recovered.
const fn too_old(sequence: u64) -> ProducerEntry {
    let refused = Some(Code::SequenceTooOld);
    ProducerEntry { sequence, body_checksum: 0, offset: 0, records: 0, append_time_ns: 0, refused }
}

const WINDOW: usize = DEDUP_WINDOW as usize;

#[derive(Debug)]
struct Producer {
    owner: Option<u64>,
    generation: u16,
    /// From the log, which does not tell sequences that were refused: the next one may be beyond the expected.
    recovered: bool,
    /// Sequence 1 has not been seen: whatever else it sends belongs to a producer that was forgotten.
    fresh: bool,
    next_sequence: u64,
    /// As said when it was opened.
    connections: u64,
    /// When it was last opened or closed, by the table's count.
    used: u64,
    window: Box<[Remembered; WINDOW]>,
}

impl Producer {
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // taken modulo the window
    fn place(sequence: u64) -> usize {
        sequence as usize % WINDOW
    }

    #[inline]
    fn entry(&mut self, sequence: u64) -> &mut Remembered {
        &mut self.window[Producer::place(sequence)]
    }

    /// What became of a sequence of the window; `None` where that is not known (it was used up before the log was
    /// recovered).
    fn state_of(&self, sequence: u64) -> Option<ProducerEntry> {
        let entry = &self.window[Producer::place(sequence)];
        let code = || u16::try_from(entry.checksum).ok().and_then(Code::from_number);
        let refused = if entry.span == 0 { Some(code()?) } else { None };
        Some(ProducerEntry {
            sequence,
            body_checksum: if refused.is_some() { 0 } else { entry.checksum },
            offset: entry.offset,
            records: entry.span,
            append_time_ns: entry.append_time_ns,
            refused,
        })
    }

    /// The sequences up to this one were used up by batches that were refused, before the log was recovered.
    fn skip_to(&mut self, sequence: u64) {
        let first = self.next_sequence.max(sequence.saturating_sub(u64::from(DEDUP_WINDOW)));
        for skipped in first..sequence {
            *self.entry(skipped) = Remembered::default();
        }
        self.next_sequence = sequence;
        self.recovered = false;
    }

    #[inline]
    fn use_up(&mut self, entry: Remembered) {
        let sequence = self.next_sequence;
        *self.entry(sequence) = entry;
        self.next_sequence += 1;
        self.fresh = false;
        self.recovered = false;
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Producers {
    ids: Vec<u64>,
    table: Vec<Producer>,
    count: u64,
}

impl Producers {
    pub(super) fn may_resume(&self, producer_id: u64) -> bool {
        let known = self.ids.iter().position(|&id| id == producer_id);
        known.is_some_and(|index| self.table[index].owner.is_none())
    }

    pub(super) fn open(
        &mut self,
        producer_id: u64,
        connections: u64,
        owner: u64,
    ) -> Result<OpenedProducer, Code> {
        self.count += 1;
        let index = match self.ids.iter().position(|&id| id == producer_id) {
            Some(index) => index,
            None => self.place_for(producer_id)?,
        };
        let producer = &mut self.table[index];
        // What a producer has sent on a connection that it has given up may come last.
        if (1..producer.connections).contains(&connections) {
            return Err(Code::ProducerFenced);
        }
        producer.connections = connections;
        producer.used = self.count;
        let before = producer.owner.replace(owner);
        Ok(OpenedProducer {
            slot: ProducerSlot::new(index, producer.generation),
            next_sequence: producer.next_sequence,
            fenced: before.filter(|&before| before != owner),
        })
    }

    /// A place for a producer that is not known: a new one, or that of the longest closed.
    fn place_for(&mut self, producer_id: u64) -> Result<usize, Code> {
        if self.table.len() < PRODUCERS_PER_PARTITION as usize {
            self.ids.push(producer_id);
            self.table.push(Producer {
                owner: None,
                generation: 0,
                fresh: true,
                recovered: false,
                next_sequence: 1,
                connections: 0,
                used: 0,
                window: Box::new([Remembered::default(); WINDOW]),
            });
            return Ok(self.table.len() - 1);
        }
        let (index, producer) = self
            .table
            .iter_mut()
            .enumerate()
            .filter(|(_, producer)| producer.owner.is_none())
            .min_by_key(|(_, producer)| producer.used)
            .ok_or(Code::TooManyProducers)?;
        self.ids[index] = producer_id;
        producer.generation = producer.generation.wrapping_add(1);
        producer.fresh = true;
        producer.recovered = false;
        producer.next_sequence = 1;
        producer.connections = 0;
        Ok(index)
    }

    /// As the log remembers them.
    pub(super) fn recover(&mut self, states: &[ProducerState]) {
        for state in states.iter().take(PRODUCERS_PER_PARTITION as usize) {
            let mut window = Box::new([Remembered::default(); WINDOW]);
            let entries = state.entries.iter().filter(|_| !mutation::on(Mutation::ForgetWindow));
            for entry in entries {
                window[Producer::place(entry.sequence)] = match entry.refused {
                    Some(code) => Remembered::refused(code),
                    None => Remembered {
                        checksum: entry.body_checksum,
                        span: entry.records,
                        offset: entry.offset,
                        append_time_ns: entry.append_time_ns,
                    },
                };
            }
            self.ids.push(state.producer_id);
            self.table.push(Producer {
                owner: None,
                generation: 0,
                fresh: false,
                recovered: true,
                next_sequence: state.next_sequence,
                connections: 0,
                used: 0,
                window,
            });
        }
    }

    /// For a snapshot: all that have used up a sequence.
    pub(super) fn states(&self) -> Vec<ProducerState> {
        let known = self.ids.iter().zip(&self.table).filter(|(_, producer)| producer.next_sequence > 1);
        known
            .skip(usize::from(mutation::on(Mutation::SnapshotForgets)))
            .map(|(&producer_id, producer)| {
                let next = producer.next_sequence;
                let first = next.saturating_sub(u64::from(DEDUP_WINDOW)).max(1);
                let window = (first..next).map(|sequence| (sequence, producer.state_of(sequence)));
                // What was skipped behind a recovery lies between others, and a snapshot has no holes: it is answered as
                // ever when it is kept as refused.
                let entries = window
                    .skip_while(|(_, known)| known.is_none())
                    .map(|(sequence, known)| known.unwrap_or_else(|| too_old(sequence)))
                    .collect();
                ProducerState { producer_id, next_sequence: next, entries }
            })
            .collect()
    }

    pub(super) fn close(&mut self, slot: ProducerSlot, owner: u64) {
        self.count += 1;
        let count = self.count;
        if let Some(producer) = self.at(slot)
            && producer.owner == Some(owner)
        {
            producer.owner = None;
            producer.used = count;
        }
    }

    #[inline]
    fn at(&mut self, slot: ProducerSlot) -> Option<&mut Producer> {
        let producer = self.table.get_mut(slot.index())?;
        (u32::from(producer.generation) == slot.generation()).then_some(producer)
    }

    #[inline]
    pub(super) fn admit(
        &mut self,
        slot: ProducerSlot,
        owner: u64,
        sequence: u64,
        body_checksum: u32,
    ) -> Admission {
        let Some(producer) = self.at(slot) else {
            return Admission::Refused(Code::UnknownProducer);
        };
        if producer.owner != Some(owner) {
            return Admission::Refused(Code::ProducerFenced);
        }
        let next = producer.next_sequence;
        if sequence == next {
            // Also where it is refused for now: it comes again, and what is behind it must not come before.
            (producer.fresh, producer.recovered) = (false, false);
            return Admission::New;
        }
        if sequence > next && (producer.recovered || mutation::on(Mutation::TakeAhead)) {
            producer.skip_to(sequence);
            return Admission::New;
        }
        if sequence > next {
            let code = if producer.fresh { Code::UnknownProducer } else { Code::OutOfSequence };
            return Admission::Refused(code);
        }
        if mutation::on(Mutation::TakeTwice) {
            return Admission::New;
        }
        if sequence == 0 || next - sequence > u64::from(DEDUP_WINDOW) {
            return Admission::Refused(Code::SequenceTooOld);
        }
        producer.entry(sequence).admission(body_checksum)
    }

    /// The batch that was admitted as new is appended.
    #[inline]
    pub(super) fn accepted(&mut self, slot: ProducerSlot, sequence: u64, entry: Remembered) {
        let producer = self.at(slot).expect("the batch was admitted");
        if mutation::on(Mutation::TakeTwice) && producer.next_sequence != sequence {
            return;
        }
        assert!(producer.next_sequence == sequence, "the batch was admitted as new");
        producer.use_up(entry);
    }

    pub(super) fn consume(&mut self, slot: ProducerSlot, owner: u64, sequence: u64, code: Code) {
        assert!(!code.retryable(), "a refusal for good");
        if let Some(producer) = self.at(slot)
            && producer.owner == Some(owner)
            && producer.next_sequence == sequence
        {
            producer.use_up(Remembered::refused(code));
        }
    }
}
