//! Random histories of a partition against a list of batches: each subscriber gets each record once, in
//! order, byte for byte, or a gap that says exactly what is missing; nothing that is taken ever changes.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Publish { body_words: usize, records: u32, pieces: usize, foreign: bool },
    Subscribe { start: u8, credit: u64 },
    Unsubscribe { who: usize },
    Take { who: usize, bytes_max: u32, spans_max: usize },
    Sent { who: usize, part: u8 },
    Credit { who: usize, more: u64 },
    Blocked { who: usize, blocked: bool },
    Unpin,
    Tick { ns: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (prop_oneof![6 => 0..40usize, 3 => 0..600usize, 1 => 3000..4300usize], 1..20u32, 1..4usize, any::<bool>())
            .prop_map(|(body_words, records, pieces, foreign)| Step::Publish { body_words, records, pieces, foreign }),
        2 => (any::<u8>(), prop_oneof![Just(u64::MAX / 2), 0..50_000u64])
            .prop_map(|(start, credit)| Step::Subscribe { start, credit }),
        1 => any::<usize>().prop_map(|who| Step::Unsubscribe { who }),
        8 => (any::<usize>(), prop_oneof![1..5_000u32, Just(u32::MAX)], 1..4usize)
            .prop_map(|(who, bytes_max, spans_max)| Step::Take { who, bytes_max, spans_max }),
        8 => (any::<usize>(), prop_oneof![Just(255u8), any::<u8>()]).prop_map(|(who, part)| Step::Sent { who, part }),
        2 => (any::<usize>(), 0..60_000u64).prop_map(|(who, more)| Step::Credit { who, more }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(who, blocked)| Step::Blocked { who, blocked }),
        2 => Just(Step::Unpin),
        1 => (0..3_000u64).prop_map(|ns| Step::Tick { ns }),
    ]
}

/// What a subscriber has seen.
struct Seen {
    id: SubscriberId,
    /// The next offset it has to get, or a gap from.
    expected: u64,
    /// Where its cursor is if that is further (a gap it was not told of yet).
    start_offset: u64,
    /// Of a frame that is not whole yet.
    partial: Vec<u8>,
    in_flight: Option<(Vec<Span>, Vec<u8>)>,
    credit: u64,
    received: u64,
}

struct Run {
    world: World,
    seen: Vec<Seen>,
    overflow: Overflow,
    kind: TopicKind,
}

impl Run {
    fn batch_at(&self, offset: u64) -> Option<&Batch> {
        let at = self.world.batches.binary_search_by_key(&offset, |batch| batch.offset).ok()?;
        Some(&self.world.batches[at])
    }

    /// Frame bytes some subscriber has yet to receive whole.
    fn protected(&self) -> Option<u64> {
        let slowest = self.seen.iter().map(|seen| seen.expected.max(seen.start_offset)).min()?;
        let waiting = self.world.batches.iter().rev().take_while(|batch| batch.offset >= slowest);
        Some(waiting.map(|batch| batch.frame.len() as u64).sum())
    }

    fn publish(&mut self, body_words: usize, records: u32, pieces: usize, foreign: bool) {
        let live = self.kind == TopicKind::Live;
        let source = if foreign { Source::Foreign } else { Source::Local };
        let pieces = if live && !foreign { 1 } else { pieces };
        let protected = self.protected();
        let before = self.world.partition.log_end_offset();
        let bytes = (HEADER + body_words * 8) as u64;
        let Some(result) = self.world.publish_from(body_words * 8, records, source, pieces) else {
            return self.world.partition.unpin(&mut self.world.buffers);
        };
        if bytes > RING_BYTES / 2 {
            assert_eq!(result, Err(Code::BatchTooLarge));
        } else if protected.unwrap_or(0) + bytes <= RING_BYTES {
            assert!(result.is_ok(), "there is room: {result:?}");
        } else {
            match self.overflow {
                Overflow::Block => assert_eq!(result, Err(Code::BackPressure)),
                Overflow::Reject => assert_eq!(result, Err(Code::RingFull)),
                Overflow::DropOldest if result.is_err() => {
                    assert_eq!(result, Err(Code::BackPressure));
                    assert!(self.seen.iter().any(|seen| seen.in_flight.is_some()), "only for what is taken");
                }
                Overflow::DropOldest => {}
            }
        }
        let after = before + result.map_or(0, |_| u64::from(records));
        assert_eq!(self.world.partition.log_end_offset(), after);
        if let Ok(appended) = result {
            assert_eq!(appended.offset, before);
        }
    }

    fn subscribe(&mut self, start: u8, credit: u64) {
        let (first, end) = (self.world.partition.log_start_offset(), self.world.partition.log_end_offset());
        let middle = first + (end - first) / 2;
        let start = match start % 5 {
            0 => Start::Earliest,
            1 => Start::Latest,
            2 => Start::Offset(middle),
            3 => Start::Offset(first / 2),
            _ => Start::TimeNs(self.world.wall_ns.saturating_sub(500)),
        };
        let made = self.world.subscribe(start, credit);
        assert_eq!((made.log_start_offset, made.log_end_offset), (first, end));
        let memory = self.kind == TopicKind::Memory;
        let expected = match start {
            Start::Earliest if memory => 0,
            Start::Offset(offset) if offset < first => offset,
            Start::Offset(offset) => self.world.batch_start(offset),
            _ => made.start_offset,
        };
        if let Start::Offset(offset) = start {
            assert_eq!(made.start_offset, offset.max(first));
        }
        let start_offset = self.world.batch_start(made.start_offset);
        assert!(start_offset == end || self.batch_at(start_offset).is_some());
        self.seen.push(Seen {
            id: made.id,
            expected,
            start_offset,
            partial: Vec::new(),
            in_flight: None,
            credit,
            received: 0,
        });
    }

    fn take(&mut self, who: usize, bytes_max: u32, spans_max: usize) {
        let seen = &self.seen[who];
        if seen.in_flight.is_some() {
            return;
        }
        let id = seen.id;
        assert_eq!(self.world.partition.in_frame(id), !seen.partial.is_empty());
        let ready = self.world.partition.has_work(id);
        let (taken, spans) = self.world.take(id, bytes_max, spans_max);
        let bytes = self.world.bytes_of(&spans);
        if ready {
            assert!(taken.bytes > 0 || taken.gap.is_some(), "work was promised");
        }
        let seen = &mut self.seen[who];
        if let Some(gap) = taken.gap {
            assert!(seen.partial.is_empty(), "a gap stands between frames");
            assert_eq!(gap.from, seen.expected);
            assert!(gap.records > 0);
            assert!(gap.reason == GapReason::Retention || self.overflow == Overflow::DropOldest);
            seen.expected += gap.records;
        }
        if taken.bytes == 0 {
            return;
        }
        let left = seen.credit.saturating_sub(seen.received);
        let frames = frames_in(&seen.partial, &bytes);
        assert!(frames.last() == Some(&bytes.len()), "whole frames");
        let first = frames[0];
        let before_last = if frames.len() > 1 { frames[frames.len() - 2] as u64 } else { 0 };
        assert!(before_last < left || frames.len() == 1, "credit is overshot by one frame at most");
        assert!(left > 0 || !seen.partial.is_empty());
        assert!(bytes.len() <= (bytes_max as usize).max(first), "as many frames as fit");
        seen.in_flight = Some((spans, bytes));
    }

    fn sent(&mut self, who: usize, part: u8) {
        let Some((spans, bytes)) = self.seen[who].in_flight.take() else { return };
        assert!(self.world.bytes_of(&spans) == bytes, "what is taken stays as it is");
        let count = bytes.len() * usize::from(part) / 255;
        let id = self.seen[who].id;
        let small_count = u32::try_from(count).expect("small");
        let told = self.world.partition.sent(&mut self.world.buffers, id, small_count);
        self.seen[who].received += count as u64;
        self.seen[who].partial.extend_from_slice(&bytes[..count]);
        let mut records = 0;
        while self.seen[who].partial.len() >= HEADER {
            let seen = &self.seen[who];
            let head: &[u8; HEADER] = seen.partial[..HEADER].try_into().expect("a header");
            let header = FrameHeader::parse(head, u32::MAX).expect("a sound header");
            if seen.partial.len() < header.frame_bytes() {
                break;
            }
            assert_eq!(header.offset, seen.expected, "in order, each once");
            let batch = self.batch_at(header.offset).expect("it was published");
            assert!(batch.frame[..] == seen.partial[..batch.frame.len()], "byte for byte");
            let (length, count) = (batch.frame.len(), batch.records);
            records += count;
            let seen = &mut self.seen[who];
            seen.expected += u64::from(count);
            seen.partial.drain(..length);
        }
        assert_eq!(told, records);
        assert_eq!(self.world.partition.in_frame(id), !self.seen[who].partial.is_empty());
    }

    fn unsubscribe(&mut self, who: usize) {
        self.sent(who, 255);
        let seen = self.seen.swap_remove(who);
        self.world.partition.unsubscribe(&mut self.world.buffers, seen.id);
    }

    fn act(&mut self, step: Step) {
        let many = self.seen.len();
        match step {
            Step::Publish { body_words, records, pieces, foreign } => {
                self.publish(body_words, records, pieces, foreign);
            }
            Step::Subscribe { start, credit } if many < 6 => self.subscribe(start, credit),
            Step::Unsubscribe { who } if many > 0 => self.unsubscribe(who % many),
            Step::Take { who, bytes_max, spans_max } if many > 0 => {
                self.take(who % many, bytes_max, spans_max);
            }
            Step::Sent { who, part } if many > 0 => self.sent(who % many, part),
            Step::Credit { who, more } if many > 0 => {
                let seen = &mut self.seen[who % many];
                seen.credit += more;
                self.world.partition.credit(seen.id, seen.credit).expect("it grows");
            }
            Step::Blocked { who, blocked } if many > 0 => {
                self.world.partition.set_blocked(self.seen[who % many].id, blocked);
            }
            Step::Unpin => {
                self.world.partition.unpin(&mut self.world.buffers);
                if self.seen.iter().all(|seen| seen.in_flight.is_none()) {
                    assert!(!self.world.partition.holds_receive_memory());
                }
            }
            Step::Tick { ns } => self.world.wall_ns = self.world.wall_ns.wrapping_add(ns) - ns / 2,
            _ => {}
        }
    }

    /// Everybody gets everything; then nothing is held.
    fn finish(mut self) {
        for who in 0..self.seen.len() {
            self.sent(who, 255);
            let id = self.seen[who].id;
            self.seen[who].credit = u64::MAX;
            self.world.partition.credit(id, u64::MAX).expect("the most");
            self.world.partition.set_blocked(id, false);
            while self.world.partition.has_work(id) {
                self.take(who, u32::MAX, 64);
                self.sent(who, 255);
            }
            assert_eq!(self.seen[who].expected, self.world.partition.log_end_offset());
        }
        if self.kind == TopicKind::Live {
            assert!(!self.world.partition.holds_receive_memory());
            assert_eq!(self.world.partition.log_start_offset(), self.world.partition.log_end_offset());
        }
        let status = self.world.partition.status(&self.world.buffers, 0, crate::ids::ShardId(0));
        assert!(
            status.consumers.iter().all(|consumer| consumer.lag_records == 0 && consumer.cause == "none")
        );
        assert_eq!(self.world.partition.counters().appended_batches, self.world.batches.len() as u64);
        while !self.seen.is_empty() {
            self.unsubscribe(0);
        }
        assert_eq!(self.world.leaked_bytes(), 0);
    }
}

/// Where frames end in `bytes`, which go on after `partial`.
fn frames_in(partial: &[u8], bytes: &[u8]) -> Vec<usize> {
    let all: Vec<u8> = partial.iter().chain(bytes).copied().collect();
    let mut ends = Vec::new();
    let mut at = 0;
    while at + HEADER <= all.len() {
        let body = u32::from_le_bytes(all[at + 4..at + 8].try_into().expect("four bytes"));
        at += HEADER + body as usize;
        if at > partial.len() {
            ends.push(at - partial.len());
        }
    }
    ends
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(192);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_record_once_in_order_or_in_a_gap(
        live in any::<bool>(),
        overflow in prop_oneof![Just(Overflow::Block), Just(Overflow::DropOldest), Just(Overflow::Reject)],
        steps in proptest::collection::vec(step(), 1..400),
    ) {
        let kind = if live { TopicKind::Live } else { TopicKind::Memory };
        let mut run = Run { world: World::new(kind, overflow), seen: Vec::new(), overflow, kind };
        for step in steps {
            run.act(step);
        }
        run.finish();
    }
}
