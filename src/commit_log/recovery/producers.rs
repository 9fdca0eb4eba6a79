//! The deduplication table, from what the log holds.

use std::collections::{HashMap, VecDeque};

use crate::commit_log::{ProducerEntry, ProducerState};
use crate::limits::{DEDUP_WINDOW, PRODUCERS_PER_PARTITION};
use crate::proto::code::Code;

/// The table holds up to this many more than it keeps, so that forgetting is seldom.
const SLACK: usize = 1024;
const KEPT: usize = PRODUCERS_PER_PARTITION as usize;
const WINDOW: usize = DEDUP_WINDOW as usize;

/// A stored batch, as its frame tells it.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    pub producer_id: u64,
    pub entry: ProducerEntry,
}

struct Known {
    next_sequence: u64,
    entries: VecDeque<ProducerEntry>,
    /// When it last stored something, by the table's count.
    used: u64,
}

/// See the module.
#[derive(Default)]
pub struct Producers {
    known: HashMap<u64, Known>,
    count: u64,
}

impl Producers {
    pub fn restore(states: &[ProducerState]) -> Producers {
        let mut producers = Producers::default();
        for state in states {
            producers.count += 1;
            let entries = state.entries.iter().copied().collect();
            let known = Known { next_sequence: state.next_sequence, entries, used: producers.count };
            producers.known.insert(state.producer_id, known);
        }
        producers
    }

    pub fn store(&mut self, stored: Stored) {
        self.count += 1;
        let sequence = stored.entry.sequence;
        if self.known.len() >= KEPT + SLACK && !self.known.contains_key(&stored.producer_id) {
            self.forget();
        }
        let known = self.known.entry(stored.producer_id).or_insert_with(|| Known {
            next_sequence: sequence,
            entries: VecDeque::new(),
            used: 0,
        });
        known.used = self.count;
        let skipped =
            sequence.checked_sub(known.next_sequence).filter(|&skipped| skipped < DEDUP_WINDOW.into());
        if skipped.is_none() {
            // It began anew after it had been forgotten, or what it remembers lies too far back.
            known.entries.clear();
        }
        // Sequences in between were refused for good, or lie in a damaged range: nothing is known of them.
        for skipped in sequence - skipped.unwrap_or(0)..sequence {
            known.remember(ProducerEntry {
                sequence: skipped,
                body_checksum: 0,
                offset: 0,
                records: 0,
                append_time_ns: stored.entry.append_time_ns,
                refused: Some(Code::SequenceTooOld),
            });
        }
        known.remember(stored.entry);
        known.next_sequence = sequence.saturating_add(1);
    }

    /// Forgets those that stored nothing for the longest time.
    fn forget(&mut self) {
        if self.known.len() <= KEPT {
            return;
        }
        let mut uses: Vec<u64> = self.known.values().map(|known| known.used).collect();
        let surplus = uses.len() - KEPT;
        let (_, &mut oldest, _) = uses.select_nth_unstable(surplus);
        self.known.retain(|_, known| known.used >= oldest);
    }

    /// Those that are kept, the longest silent first.
    pub fn finish(mut self) -> Vec<ProducerState> {
        self.forget();
        let mut all: Vec<(u64, Known)> = self.known.into_iter().collect();
        all.sort_unstable_by_key(|(_, known)| known.used);
        let state = |(producer_id, known): (u64, Known)| ProducerState {
            producer_id,
            next_sequence: known.next_sequence,
            entries: known.entries.into(),
        };
        all.into_iter().map(state).collect()
    }
}

impl Known {
    fn remember(&mut self, entry: ProducerEntry) {
        if self.entries.len() == WINDOW {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }
}
