//! Opening and sealing records of TLS: what the cipher takes, and what is around it.

use uringest::tls::Records;

use super::{Piece, Repeat};
use crate::records::rig::Rig;

/// KiB of a repetition.
const UNITS: u32 = 256;

pub(super) const PIECES: &[Piece] = &[
    Piece { name: "tls_open_16k", unit: "KiB", units: UNITS, prepare: || Open::boxed(16 * 1024) },
    Piece { name: "tls_open_1k", unit: "KiB", units: UNITS, prepare: || Open::boxed(1024) },
    Piece { name: "tls_seal_16k", unit: "KiB", units: UNITS, prepare: || Seal::boxed(16 * 1024) },
    Piece { name: "tls_seal_1k", unit: "KiB", units: UNITS, prepare: || Seal::boxed(1024) },
];

fn rig(record_bytes: usize) -> Rig {
    Rig::new(Records::Own, record_bytes).expect("a place for certificates, and a handshake")
}

struct Open(Rig);

impl Open {
    fn boxed(record_bytes: usize) -> Box<dyn Repeat> {
        Box::new(Open(rig(record_bytes)))
    }
}

impl Repeat for Open {
    fn ready(&mut self) {
        self.0.prepare();
    }

    fn work(&mut self) {
        self.0.open();
    }
}

struct Seal(Rig);

impl Seal {
    fn boxed(record_bytes: usize) -> Box<dyn Repeat> {
        Box::new(Seal(rig(record_bytes)))
    }
}

impl Repeat for Seal {
    fn work(&mut self) {
        self.0.seal();
    }
}
