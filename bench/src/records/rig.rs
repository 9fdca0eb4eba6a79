//! A session and memory for the records of a turn.

use std::hint::black_box;

use uringest::tls::record::{OVERHEAD_BYTES, PLAINTEXT_ROOM_BYTES};
use uringest::tls::{Records, Suite};

use super::pair::Pair;
use super::{PAGE_BYTES, Places, TURN_BYTES, Way, per_kib};
use crate::failure::Failure;
use crate::host::thread_cpu_ns;

/// See the module. The server's side is what is looked at.
pub(crate) struct Rig {
    pair: Pair,
    /// Content of a record.
    data: Vec<u8>,
    /// Records that the client has sealed.
    stream: Vec<u8>,
    sealed: usize,
    out: Vec<u8>,
    places: Places,
}

impl Rig {
    pub(crate) fn new(records: Records, record_bytes: usize) -> Result<Rig, Failure> {
        // Room for the records, a key's replacement, and the next record's plaintext.
        let room = TURN_BYTES / record_bytes * (record_bytes + OVERHEAD_BYTES)
            + 2 * PLAINTEXT_ROOM_BYTES
            + PAGE_BYTES;
        let (data, memory) = (vec![0x5a; record_bytes], || vec![0; room]);
        Ok(Rig {
            pair: Pair::new(records)?,
            data,
            stream: memory(),
            sealed: 0,
            out: memory(),
            places: Places::default(),
        })
    }

    pub(crate) fn suite(&self) -> Suite {
        self.pair.server.peer().expect("the handshake is over").suite
    }

    /// The client seals a turn's records.
    pub(crate) fn prepare(&mut self) {
        self.places.shift();
        let stream = &mut self.stream[self.places.stream..];
        self.sealed = 0;
        for _ in 0..TURN_BYTES / self.data.len() {
            let sealed = self.pair.client.transmit(&self.data, &mut stream[self.sealed..]);
            assert!(sealed.taken == self.data.len(), "a record has room");
            self.sealed += sealed.written;
        }
    }

    /// The server opens what was prepared.
    pub(crate) fn open(&mut self) {
        let stream = black_box(&self.stream[self.places.stream..][..self.sealed]);
        let received = self.pair.server.receive(stream, &mut self.out[self.places.out..], self.pair.now_s);
        assert!(received.produced == TURN_BYTES, "{received:?}");
    }

    /// The server seals a turn's records, each into the room of one, as a caller does that knows where it ends.
    pub(crate) fn seal(&mut self) {
        let mut at = self.places.out;
        for _ in 0..TURN_BYTES / self.data.len() {
            let sealed = self.pair.server.transmit(black_box(&self.data), &mut self.out[at..]);
            assert!(sealed.taken == self.data.len(), "a record has room");
            at += sealed.written;
        }
    }
}

impl Way for Rig {
    fn turn(&mut self) -> [f64; 2] {
        self.prepare();
        let begun = thread_cpu_ns();
        self.open();
        let opened = thread_cpu_ns();
        self.seal();
        [per_kib(opened - begun), per_kib(thread_cpu_ns() - opened)]
    }
}
