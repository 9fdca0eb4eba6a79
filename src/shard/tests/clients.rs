//! Clients that keep to the protocol and hold the server to it: a producer that resends what is refused for now,
//! and a consumer that knows which record has to come next.

use std::collections::{BTreeMap, HashMap};

use super::rig::*;
use crate::ids::SockId;
use crate::limits::HEADER_BYTES;
use crate::proto::code::Code;
use crate::proto::control::Refusal;
use crate::proto::header::{FLAG_DUPLICATE, FrameHeader, GapReason, Kind};

/// What the server said in a refusal.
pub(super) fn code_of(frame: &[u8]) -> Code {
    Refusal::decode(&frame[HEADER_BYTES..]).expect("a refusal").code
}

pub(super) fn header_only(kind: Kind, channel: u32) -> Vec<u8> {
    FrameHeader { channel, ..FrameHeader::new(kind) }.alone().to_vec()
}

/// Like `batch_of`, in as many records as that takes.
fn frame_of(channel: u32, id: u64, sequence: u64, bytes: usize) -> Vec<u8> {
    if bytes <= 32_000 {
        return batch_of(channel, id, sequence, bytes);
    }
    let payload = vec![u8::try_from(sequence % 251).expect("small"); bytes];
    batch(channel, id, sequence, &payload.chunks(30_000).collect::<Vec<_>>())
}

/// One channel's client.
pub(super) struct Producer {
    pub sock: SockId,
    pub channel: u32,
    pub id: u64,
    pub limit: u64,
    pub used: u64,
    pub next: u64,
    /// Sent and not answered, by sequence.
    pub unanswered: BTreeMap<u64, Vec<u8>>,
    /// Built, and not covered by credit.
    pub ready: Option<Vec<u8>>,
    /// Refused for now.
    pub refused: BTreeMap<u64, Vec<u8>>,
    /// Offset by sequence, of acknowledgements.
    pub acked: BTreeMap<u64, u64>,
    /// Sequences that are known to be accepted.
    pub accepted: u64,
    /// It was told that nothing more is taken.
    pub over: bool,
    /// It sends a frame that its credit does not cover only where that is larger than all before.
    pub patient: bool,
    /// Bytes of its largest frame.
    pub largest: usize,
    /// The last refusal.
    pub last_code: Option<Code>,
}

impl Producer {
    pub(super) fn new(sock: SockId, channel: u32, id: u64, credit: u64) -> Producer {
        Producer {
            sock,
            channel,
            id,
            limit: credit,
            used: 0,
            next: 1,
            unanswered: BTreeMap::new(),
            ready: None,
            refused: BTreeMap::new(),
            acked: BTreeMap::new(),
            accepted: 0,
            over: false,
            patient: false,
            largest: 0,
            last_code: None,
        }
    }

    fn covered(&self, bytes: usize) -> bool {
        self.used + bytes as u64 <= self.limit
    }

    /// Sends one frame if credit allows: what was refused first, in order, once everything else is answered.
    pub(super) fn step(&mut self, rig: &mut Rig, bytes: usize) -> bool {
        if self.over || !self.refused.is_empty() && !self.unanswered.is_empty() {
            return false;
        }
        let frames: Vec<Vec<u8>> = if self.refused.is_empty() {
            let ready = self.ready.take();
            vec![ready.unwrap_or_else(|| frame_of(self.channel, self.id, self.next, bytes))]
        } else {
            self.refused.values().cloned().collect()
        };
        let mut sent = false;
        for frame in frames {
            let within = self.covered(frame.len());
            let alone = self.unanswered.is_empty() && (!self.patient || frame.len() > self.largest);
            if self.unanswered.len() >= 64 || !within && !alone {
                if self.refused.is_empty() {
                    self.ready = Some(frame);
                }
                return sent;
            }
            let first = frame.first_chunk::<HEADER_BYTES>().expect("a frame");
            let sequence = FrameHeader::parse(first, FRAME_BYTES_MAX).expect("a good frame").sequence;
            self.used += frame.len() as u64;
            self.largest = self.largest.max(frame.len());
            rig.send(self.sock, &frame);
            self.refused.remove(&sequence);
            self.unanswered.insert(sequence, frame);
            self.next = self.next.max(sequence + 1);
            sent = true;
        }
        sent
    }

    pub(super) fn hear(&mut self, header: &FrameHeader, frame: &[u8]) {
        match header.kind {
            Kind::Ack => {
                let sequence = header.sequence;
                if header.flags & FLAG_DUPLICATE != 0 {
                    assert!(self.unanswered.remove(&sequence).is_some(), "an answer to what was sent");
                    self.accepted += 1;
                } else {
                    let answered: Vec<u64> = self.unanswered.range(..=sequence).map(|(&s, _)| s).collect();
                    assert_eq!(
                        answered.last(),
                        Some(&sequence),
                        "producer {}: ack of what was sent",
                        self.id
                    );
                    self.accepted += answered.len() as u64;
                    self.unanswered.retain(|&s, _| s > sequence);
                }
                self.acked.insert(sequence, header.offset);
            }
            Kind::Nack => {
                let code = code_of(frame);
                self.last_code = Some(code);
                let batch = self.unanswered.remove(&header.sequence);
                let batch = batch.unwrap_or_else(|| panic!("a nack of what was not sent: {header:?} {code}"));
                assert_ne!(code, Code::UnknownProducer, "it is known");
                if code.retryable() {
                    self.refused.insert(header.sequence, batch);
                } else {
                    self.over = true;
                }
            }
            Kind::Credit => {
                assert!(header.offset >= self.limit, "credit never shrinks");
                self.limit = header.offset;
            }
            _ => {}
        }
    }

    pub(super) fn idle(&self) -> bool {
        self.over || self.unanswered.is_empty() && self.refused.is_empty()
    }
}

/// Lets every producer hear what was said on its connection; returns the rest.
pub(super) fn listen(rig: &mut Rig, producers: &mut [Producer]) -> Vec<(SockId, FrameHeader, Vec<u8>)> {
    let mut socks: Vec<SockId> = producers.iter().map(|producer| producer.sock).collect();
    socks.sort_unstable();
    socks.dedup();
    let mut rest = Vec::new();
    let indices: HashMap<_, _> =
        producers.iter().enumerate().map(|(at, p)| ((p.sock, p.channel), at)).collect();
    for sock in socks {
        for (header, frame) in rig.heard(sock) {
            let of_producer = matches!(header.kind, Kind::Ack | Kind::Nack | Kind::Credit);
            let found = indices.get(&(sock, header.channel)).map(|&at| &mut producers[at]);
            match found {
                Some(producer) if of_producer => producer.hear(&header, &frame),
                _ => rest.push((sock, header, frame)),
            }
        }
    }
    rest
}

/// Sends until each producer's first `batches` batches are acknowledged.
pub(super) fn publish_all(rig: &mut Rig, producers: &mut [Producer], batches: u64, bytes: usize) {
    for _ in 0..3_000 {
        for producer in producers.iter_mut() {
            if producer.next <= batches || !producer.refused.is_empty() {
                producer.step(rig, bytes);
            }
        }
        rig.tick();
        listen(rig, producers);
        if producers.iter().all(|producer| producer.next > batches && producer.idle()) {
            return;
        }
    }
    let states: Vec<_> =
        producers.iter().map(|p| (p.id, p.accepted, p.unanswered.len(), p.refused.len(), p.over)).collect();
    panic!("some producer makes no progress: {states:?}");
}

/// What a consumer of one partition may hear next.
#[derive(Debug, Default)]
pub(super) struct Consumer {
    /// The next offset; not known before the first.
    pub expected: Option<u64>,
    pub records: u64,
    pub missed: u64,
    /// Why.
    pub gaps: Vec<GapReason>,
}

impl Consumer {
    pub(super) fn from(offset: u64) -> Consumer {
        Consumer { expected: Some(offset), ..Consumer::default() }
    }

    /// Checks one frame of the partition; `seen` has the checksum of each record's batch by offset.
    pub(super) fn hear(&mut self, header: &FrameHeader, frame: &[u8], seen: &mut HashMap<(u32, u64), u32>) {
        let expected = *self.expected.get_or_insert(header.offset);
        match header.kind {
            Kind::Deliver => {
                assert_eq!(header.offset, expected, "each record once, in order: {header:?}");
                assert!(crate::proto::header::body_checksum_matches(frame), "as it was sent: {header:?}");
                let before = *seen.entry((header.channel, header.offset)).or_insert(header.body_checksum);
                assert_eq!(before, header.body_checksum, "the same record for everybody");
                self.records += u64::from(header.offset_span);
                self.expected = Some(expected + u64::from(header.offset_span));
            }
            Kind::Gap => {
                assert_eq!(header.offset, expected, "a gap begins where the last record ended: {header:?}");
                assert!(header.sequence > 0, "a gap says something");
                self.missed += header.sequence;
                self.gaps.push(GapReason::from_number(header.flags).expect("a reason"));
                self.expected = Some(expected + header.sequence);
            }
            _ => {}
        }
    }

    /// Everything said on a connection that has this one subscription.
    pub(super) fn listen(&mut self, rig: &mut Rig, sock: SockId) -> Vec<(FrameHeader, Vec<u8>)> {
        let heard = rig.heard(sock);
        let mut seen = HashMap::new();
        for (header, frame) in &heard {
            self.hear(header, frame, &mut seen);
        }
        heard
    }
}
