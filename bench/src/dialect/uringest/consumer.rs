//! The receiving side: walks frame headers, and skips what is between them.

use std::io;

use uringest::proto::header::{FrameHeader, Kind};

use super::{FRAME_BYTES_MAX, HEADER, refused};
use crate::dialect::{Consumer, STAMP_BYTES, Tally};

/// Credit that a consumer begins with, and is kept at.
pub(super) const CREDIT_BYTES: u64 = 64 * 1024 * 1024;
/// Where the first payload is in a frame of `BatchBuilder` (docs/protocol.md, "A plain batch by hand").
pub(super) const PAYLOAD_AT: usize = HEADER + 28;

/// See the module.
#[derive(Debug)]
pub struct UringestConsumer {
    partition: u32,
    /// Bytes of the current frame's body that are still to come.
    skip: usize,
    /// Frame bytes delivered.
    pub(super) bytes: u64,
    /// The credit's limit.
    limit: u64,
}

impl UringestConsumer {
    pub(super) fn new(partition: u32) -> UringestConsumer {
        UringestConsumer { partition, skip: 0, bytes: 0, limit: CREDIT_BYTES }
    }
}

impl Consumer for UringestConsumer {
    #[inline]
    fn take(&mut self, bytes: &[u8], tally: &mut Tally) -> io::Result<usize> {
        let mut at = self.skip.min(bytes.len());
        self.skip -= at;
        while let Some(head) = bytes[at..].first_chunk::<HEADER>() {
            let header =
                FrameHeader::parse(head, FRAME_BYTES_MAX).map_err(|code| io::Error::other(code.name()))?;
            let whole = header.frame_bytes();
            let there = bytes.len() - at;
            if header.kind == Kind::Deliver {
                // The body may come in parts, the stamp may not.
                let stamp_end = (PAYLOAD_AT + STAMP_BYTES).min(whole);
                if there < stamp_end {
                    break;
                }
                tally.records += u64::from(header.record_count);
                tally.stamp(&bytes[at + PAYLOAD_AT..at + stamp_end]);
                self.bytes += whole as u64;
            } else {
                if there < whole {
                    break;
                }
                if header.kind == Kind::Gap {
                    tally.missed += header.sequence;
                }
                refused(&header, &bytes[at + HEADER..at + whole])?;
            }
            let step = whole.min(there);
            self.skip = whole - step;
            at += step;
        }
        Ok(at)
    }

    fn replies(&mut self, out: &mut Vec<u8>) {
        if self.limit.saturating_sub(self.bytes) < CREDIT_BYTES / 2 {
            self.limit = self.bytes + CREDIT_BYTES;
            let credit =
                FrameHeader { channel: self.partition, offset: self.limit, ..FrameHeader::new(Kind::Credit) };
            out.extend_from_slice(&credit.alone());
        }
    }
}
