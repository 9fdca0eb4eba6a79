//! The receiving side: walks the parts of answers in the order in which they must come, and skips payloads.

use std::io;
use std::sync::Arc;

use super::RedisWay;
use super::resp::{Head, command, head, unexpected};
use crate::dialect::lead::Lead;
use crate::dialect::{Consumer, STAMP_BYTES, Tally};

/// Entries asked for at once.
const ENTRIES: &str = "4096";
/// Names (channels, keys, fields, entry names) are short.
const NAME_BYTES_MAX: usize = 128;

/// What the next part has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Of this many parts.
    Array(usize),
    /// As many entries as it says.
    Entries,
    /// Short, and not looked at.
    Name,
    /// The name to ask from next time.
    EntryName,
    Payload,
}

/// A message of a subscription: `message`, channel, payload.
const MESSAGE: [Part; 4] = [Part::Array(3), Part::Name, Part::Name, Part::Payload];
/// The answer to `XREAD` of one stream: its name and its entries ...
const ANSWER: [Part; 4] = [Part::Array(1), Part::Array(2), Part::Name, Part::Entries];
/// ... each with its name and one field.
const ENTRY: [Part; 5] = [Part::Array(2), Part::EntryName, Part::Array(2), Part::Name, Part::Payload];

/// A consumer's place in its flow's lead, and how far it has got.
#[derive(Debug)]
pub(super) struct Place {
    lead: Arc<Lead>,
    number: usize,
    records: u64,
}

impl Place {
    pub(super) fn new(lead: &Arc<Lead>) -> Place {
        Place { lead: Arc::clone(lead), number: lead.join(), records: 0 }
    }
}

/// See the module.
#[derive(Debug)]
pub struct RedisConsumer {
    way: RedisWay,
    key: String,
    /// The run of parts that is being read, and which of them is next.
    run: &'static [Part],
    next: usize,
    /// Entries of the answer that are still to come, the current one not counted.
    entries: usize,
    /// Bytes of the current payload, its line end included, that are still to come.
    skip: usize,
    last: Vec<u8>,
    /// The answer is read: there is to be asked for more.
    over: bool,
    place: Place,
}

impl RedisConsumer {
    pub(super) fn new(way: RedisWay, key: &str, place: Place) -> RedisConsumer {
        RedisConsumer {
            way,
            key: key.to_owned(),
            run: first(way),
            next: 0,
            entries: 0,
            skip: 0,
            last: b"0-0".to_vec(), // the stream is empty when the consumer comes
            over: false,
            place,
        }
    }

    /// Asks a stream for what comes behind the last entry, waiting for it where there is nothing.
    pub(super) fn question(&self) -> Vec<u8> {
        let (key, last) = (self.key.as_bytes(), &self.last[..]);
        command(&[b"XREAD", b"COUNT", ENTRIES.as_bytes(), b"BLOCK", b"0", b"STREAMS", key, last])
    }

    /// Reads the next part; how many bytes it took. `None`: it is not all there.
    #[inline]
    fn part(&mut self, bytes: &[u8], tally: &mut Tally) -> io::Result<Option<usize>> {
        let Some((head, at)) = head(bytes)? else { return Ok(None) };
        let used = match (self.run[self.next], head) {
            (Part::Array(wanted), Head::Array(parts)) if parts == wanted => at,
            (Part::Entries, Head::Array(entries @ 1..)) => {
                self.entries = entries;
                at
            }
            (Part::Name | Part::EntryName, Head::Bulk(length @ ..=NAME_BYTES_MAX)) => {
                let Some(name) = bytes.get(at..at + length + 2) else { return Ok(None) };
                if self.run[self.next] == Part::EntryName {
                    self.last.clear();
                    self.last.extend_from_slice(&name[..length]);
                }
                at + length + 2
            }
            (Part::Payload, Head::Bulk(length @ STAMP_BYTES..)) => {
                let Some(stamp) = bytes.get(at..at + STAMP_BYTES) else { return Ok(None) };
                tally.record(stamp);
                self.place.records += 1;
                let there = (length + 2).min(bytes.len() - at);
                self.skip = length + 2 - there;
                at + there
            }
            _ => return Err(unexpected(bytes)),
        };
        self.step();
        Ok(Some(used))
    }

    #[inline]
    fn step(&mut self) {
        self.next += 1;
        if self.next < self.run.len() {
            return;
        }
        self.next = 0;
        if self.entries > 0 {
            (self.run, self.entries) = (&ENTRY, self.entries - 1);
        } else {
            self.run = first(self.way);
            self.over = true;
        }
    }
}

/// What an answer begins with.
fn first(way: RedisWay) -> &'static [Part] {
    match way {
        RedisWay::PubSub => &MESSAGE,
        RedisWay::Streams => &ANSWER,
    }
}

impl Consumer for RedisConsumer {
    #[inline]
    fn take(&mut self, bytes: &[u8], tally: &mut Tally) -> io::Result<usize> {
        let mut at = self.skip.min(bytes.len());
        self.skip -= at;
        while let Some(used) = self.part(&bytes[at..], tally)? {
            at += used;
        }
        self.place.lead.delivered(self.place.number, self.place.records);
        Ok(at)
    }

    fn replies(&mut self, out: &mut Vec<u8>) {
        // The last payload's end may not have come yet: the question is none the worse for being early.
        if std::mem::take(&mut self.over) && self.way == RedisWay::Streams {
            out.extend_from_slice(&self.question());
        }
    }
}
