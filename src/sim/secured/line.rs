//! A client's bytes between its core and the network, as the drivers have them: as they are, or as TLS records.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::client::core::{ConnectionConfig, Core};
use crate::client::secured::{Connector, Lost, Receiver, Wire};
use crate::proto::code::Code;
use crate::proto::control::Refusal;
use crate::proto::header::Kind;

/// Bytes a core hands over at once.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// See the module.
pub struct Line {
    connector: Connector,
    wire: Option<Arc<Wire>>,
    receiver: Receiver,
    block: Vec<u8>,
    /// A server has welcomed the client, on this connection or another.
    pub welcomed: bool,
    /// On this one.
    pub greeted: bool,
    /// On this one the server has told that it drains.
    told_of_drain: bool,
    /// And that a partition is fenced.
    pub told_of_fence: bool,
    /// What the server has refused, until somebody asks.
    refusals: Vec<Code>,
}

impl Line {
    /// Of a client with this configuration.
    ///
    /// # Panics
    /// When it is not good.
    pub fn new(config: &ConnectionConfig, now_s: u64) -> Line {
        let connector = Connector::new(config, now_s).expect("a good configuration");
        let receiver = Receiver::new(usize::MAX);
        Line {
            connector,
            wire: None,
            receiver,
            block: Vec::new(),
            welcomed: false,
            greeted: false,
            told_of_drain: false,
            told_of_fence: false,
            refusals: Vec::new(),
        }
    }

    /// It speaks TLS.
    pub fn is_secured(&self) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.is_secured())
    }

    /// Its handshake is not over.
    pub fn is_handshaking(&self) -> bool {
        self.is_secured() && !self.wire.as_ref().is_some_and(|wire| wire.may_send())
    }

    /// A connection begins.
    pub fn begin(&mut self, now_s: u64) {
        let wire = self.connector.open(now_s);
        if self.block.is_empty() {
            self.block = wire.block();
        }
        self.receiver.begin(Arc::clone(&wire));
        self.wire = Some(wire);
        (self.greeted, self.told_of_drain, self.told_of_fence) = (false, false, false);
    }

    /// The next data is sealed with another key.
    pub fn replace_key(&self) {
        if let Some(wire) = &self.wire {
            wire.replace_key();
        }
    }

    /// What goes out now.
    pub fn write(&mut self, core: &mut dyn Core, now_ns: u64) -> Vec<u8> {
        let Some(wire) = &self.wire else { return Vec::new() };
        let mut frames = Vec::new();
        if wire.may_send() {
            core.transmit(WRITE_BYTES_MAX, now_ns, &mut frames);
        }
        if !wire.is_secured() {
            return frames.concat();
        }
        let mut out = Vec::new();
        let mut frames = VecDeque::from(frames);
        loop {
            match wire.seal(&mut frames, &mut self.block) {
                0 => return out,
                bytes => out.extend_from_slice(&self.block[..bytes]),
            }
        }
    }

    /// What goes out before the connection is closed.
    pub fn goodbye(&mut self) -> Vec<u8> {
        let Some(wire) = &self.wire else { return Vec::new() };
        let bytes = wire.goodbye(&mut self.block);
        self.block[..bytes].to_vec()
    }

    /// These bytes have come: frames for the core, until something is wrong with them.
    pub fn read(
        &mut self,
        core: &mut dyn Core,
        mut bytes: &[u8],
        now_ns: u64,
        now_s: u64,
    ) -> Result<(), Lost> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let room = self.receiver.room();
            let taken = room.len().min(bytes.len());
            room[..taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            let came = self.receiver.filled(taken, now_s, &mut frames);
            for frame in frames.drain(..) {
                self.greeted |= frame.header.kind == Kind::Welcome;
                self.welcomed |= self.greeted;
                self.told_of_drain |= frame.header.kind == Kind::Drain;
                if matches!(frame.header.kind, Kind::Nack | Kind::Error | Kind::Close)
                    && let Ok(refusal) = Refusal::decode(frame.body())
                {
                    self.assert_told_of_drain(frame.header.kind, refusal.code);
                    self.told_of_fence |= refusal.code == Code::PartitionFenced;
                    self.refusals.push(refusal.code);
                }
                core.frame(frame, now_ns);
            }
            came?;
        }
        Ok(())
    }

    /// A session that ends with the server was told before that it would, while there was time.
    fn assert_told_of_drain(&self, kind: Kind, code: Code) {
        let ends = kind == Kind::Close && code == Code::ServerDraining;
        assert!(!ends || self.told_of_drain, "a server says goodbye, and had not told that it drains");
    }

    /// Why the server has refused something, since this was last asked.
    pub fn take_refusals(&mut self) -> Vec<Code> {
        std::mem::take(&mut self.refusals)
    }

    /// The bytes have come to their end: what that means.
    pub fn ended(&mut self) -> Lost {
        self.receiver.ended()
    }
}
