//! Bits that are others when they arrive: of one direction of a connection that speaks TLS, at most one.

use crate::sim::random::Random;
use crate::tls::record::HEADER_BYTES;

/// A reader that has read so much behind a changed bit has read the record it was in, whatever the bit was.
const RECORD_BYTES_MAX: u64 = 20 * 1024;

/// What has gone by in one direction.
#[derive(Debug, Default)]
pub struct Tamper {
    /// Of the record that is under way.
    header: Vec<u8>,
    /// Bytes of its body that have not gone by.
    body_left: usize,
    gone_by: u64,
    read: u64,
    changed_at: Option<u64>,
}

impl Tamper {
    /// These bytes go by. `changes`: one bit of them is another from here on, unless one was already; whether it is.
    ///
    /// A header's version is never changed: nobody looks at it, as RFC 8446 section 5.1 has it. Nor is its type: in a
    /// handshake rustls reads a sealed record as what it is inside, whatever it says that it is.
    pub fn pass(&mut self, bytes: &mut [u8], changes: bool, random: &mut Random) -> bool {
        let mut at = bytes.len();
        if changes && self.changed_at.is_none() && !bytes.is_empty() {
            at = random.index(bytes.len());
        }
        let mut changed = false;
        for (index, byte) in bytes.iter_mut().enumerate() {
            let is_told = self.body_left > 0 || self.header.len() > 2;
            self.follow(*byte);
            if index >= at && !changed && is_told {
                *byte ^= 1 << random.below(8);
                self.changed_at = Some(self.gone_by + index as u64);
                changed = true;
            }
        }
        self.gone_by += bytes.len() as u64;
        changed
    }

    fn follow(&mut self, byte: u8) {
        if self.body_left > 0 {
            self.body_left -= 1;
            return;
        }
        self.header.push(byte);
        if let &[_, _, _, high, low] = &self.header[..] {
            self.body_left = usize::from(u16::from_be_bytes([high, low]));
            self.header.clear();
        }
    }

    /// A bit was changed.
    pub fn is_changed(&self) -> bool {
        self.changed_at.is_some()
    }

    /// So many bytes more were read, and found good.
    ///
    /// # Panics
    /// When they cannot have been.
    pub fn assert_read(&mut self, bytes: usize) {
        self.read += bytes as u64;
        if let Some(at) = self.changed_at {
            assert!(
                self.read < at + RECORD_BYTES_MAX,
                "a record that was changed on the way was taken for good"
            );
        }
    }
}

const _: () = assert!(HEADER_BYTES == 5);
