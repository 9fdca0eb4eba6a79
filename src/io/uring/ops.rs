//! Every operation between `submit` and its last completion.
//!
//! An entry's index and generation travel in `user_data`, so that a late or unknown completion is recognised
//! and never attributed to another operation. `Cancel` names a token: entries are chained by their token's
//! index, a short walk since one connection has a handful of operations at once.

use crate::io::{Outcome, Token};

/// No entry.
pub(super) const NONE: u32 = u32::MAX;

/// Which of an operation's kernel requests a completion is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Part {
    /// The only one, for most.
    Main = 0,
    /// The poll under an emulated receive.
    Poll = 1,
    /// The read under an emulated receive.
    Read = 2,
}

/// What `user_data` says. Kinds of the shard's tokens (`TokenKind`) end far below these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// Another ring's message: `Token::WAKE`.
    Message,
    /// The event descriptor was written.
    Event,
    /// A message to another ring has failed; its index in the table of peers.
    Undelivered(u32),
    /// A request nobody waits for.
    Ignored,
    /// A part of an operation.
    Op { part: Part, generation: u32, index: u32 },
    /// Not from this backend.
    Unknown,
}

const TAG_OP: u64 = 0x80;
const TAG_UNDELIVERED: u64 = 0xfd;
const TAG_EVENT: u64 = 0xfe;
const TAG_IGNORED: u64 = 0xff;
const GENERATION_MASK: u32 = 0x00ff_ffff;

impl Tag {
    pub(super) const fn raw(self) -> u64 {
        match self {
            Tag::Message | Tag::Unknown => Token::WAKE.raw(),
            Tag::Event => TAG_EVENT << 56,
            Tag::Undelivered(peer) => TAG_UNDELIVERED << 56 | peer as u64,
            Tag::Ignored => TAG_IGNORED << 56,
            Tag::Op { part, generation, index } => {
                (TAG_OP | part as u64) << 56 | (generation as u64) << 32 | index as u64
            }
        }
    }

    #[allow(clippy::cast_possible_truncation)] // fields are cut out of their bits
    pub(super) const fn from_raw(raw: u64) -> Tag {
        let index = raw as u32;
        let generation = (raw >> 32) as u32 & GENERATION_MASK;
        match raw >> 56 {
            0 if raw == Token::WAKE.raw() => Tag::Message,
            0x80 => Tag::Op { part: Part::Main, generation, index },
            0x81 => Tag::Op { part: Part::Poll, generation, index },
            0x82 => Tag::Op { part: Part::Read, generation, index },
            TAG_UNDELIVERED => Tag::Undelivered(index),
            TAG_EVENT => Tag::Event,
            TAG_IGNORED => Tag::Ignored,
            _ => Tag::Unknown,
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Accept,
    Receive,
    Read,
    Readable,
    Writable,
    Send,
    WriteFile,
    WriteFileDurably,
    ReadFile,
    SyncFile,
    Cancel,
}

impl Kind {
    /// Works on a file: its number stands where others have their socket's.
    pub(super) const fn is_of_file(self) -> bool {
        matches!(self, Kind::WriteFile | Kind::WriteFileDurably | Kind::ReadFile | Kind::SyncFile)
    }
}

/// One operation.
#[derive(Debug, Clone)]
pub(super) struct OpEntry {
    pub token: Token,
    pub kind: Kind,
    /// The socket, or the file; `NONE` for a cancel.
    pub sock: u32,
    /// `Read`: bytes asked for and where; `Send`: the span list.
    pub argument: OpArgument,
    /// Parts the kernel holds, by `1 << Part`.
    pub in_kernel: u8,
    /// A `Cancel` names this operation.
    pub cancelling: bool,
    /// Waits for room in the submission queue.
    pub unarmed: bool,
    /// On a file: to be carried out where it may block.
    pub by_worker: bool,
    /// Emulated receive: in the queue of ready ones.
    pub queued: bool,
    /// Emulated receive: the poll has reported again since the read was started.
    pub polled_again: bool,
    /// Emulated receive: bytes taken in this visit.
    pub visit_bytes: u32,
    /// Emulated receive: how it will end once the kernel holds no part of it.
    pub ending: Option<Outcome>,
    /// First of the cancels waiting for this one, chained by `sibling`.
    canceller: u32,
    /// `Cancel`: the next one for the same target.
    sibling: u32,
    /// `Cancel`: the target is still going.
    pub awaits_target: bool,
    generation: u32,
    live: bool,
    next: u32,
}

/// What an operation works on besides its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpArgument {
    None,
    Into(crate::buf::Span),
    List(u32),
    InFile {
        at: u64,
        span: crate::buf::Span,
    },
    /// A cancel's target: its `user_data`.
    Target(u64),
}

impl OpEntry {
    pub(super) fn holds(&self, part: Part) -> bool {
        self.in_kernel & (1 << part as u8) != 0
    }

    pub(super) fn started(&mut self, part: Part) {
        debug_assert!(!self.holds(part), "a part is in the kernel once");
        self.in_kernel |= 1 << part as u8;
    }

    pub(super) fn ended(&mut self, part: Part) {
        self.in_kernel &= !(1 << part as u8);
    }
}

/// See the module. Bounded; entries are touched only as far as they are used.
pub(super) struct Ops {
    entries: Vec<OpEntry>,
    capacity: usize,
    free: u32,
    chains: Vec<u32>,
    live: u32,
}

impl Ops {
    /// `connections`: tokens' indices are mostly below this.
    pub(super) fn new(connections: u32, capacity: u32) -> Ops {
        let capacity = capacity as usize;
        Ops {
            entries: Vec::with_capacity(capacity),
            capacity,
            free: NONE,
            chains: vec![NONE; (connections.max(64) as usize).next_power_of_two()],
            live: 0,
        }
    }

    pub(super) fn live(&self) -> u32 {
        self.live
    }

    fn chain(&self, token: Token) -> usize {
        token.index() as usize & (self.chains.len() - 1)
    }

    /// A new entry; `None` when the table is full.
    pub(super) fn insert(
        &mut self,
        token: Token,
        kind: Kind,
        sock: u32,
        argument: OpArgument,
    ) -> Option<u32> {
        let chain = self.chain(token);
        let fresh = OpEntry {
            token,
            kind,
            sock,
            argument,
            in_kernel: 0,
            cancelling: false,
            unarmed: false,
            by_worker: false,
            queued: false,
            polled_again: false,
            visit_bytes: 0,
            ending: None,
            canceller: NONE,
            sibling: NONE,
            awaits_target: false,
            generation: 0,
            live: true,
            next: self.chains[chain],
        };
        let index = if self.free == NONE {
            if self.entries.len() == self.capacity {
                return None;
            }
            self.entries.push(fresh);
            u32::try_from(self.entries.len() - 1).ok()?
        } else {
            let index = self.free;
            let slot = &mut self.entries[index as usize];
            self.free = slot.next;
            *slot = OpEntry { generation: slot.generation, ..fresh };
            index
        };
        self.chains[chain] = index;
        self.live += 1;
        Some(index)
    }

    /// Frees an entry; its late completions are unknown from here on.
    pub(super) fn remove(&mut self, index: u32) {
        let chain = self.chain(self.entries[index as usize].token);
        let next = self.entries[index as usize].next;
        if self.chains[chain] == index {
            self.chains[chain] = next;
        } else {
            let mut at = self.chains[chain];
            while self.entries[at as usize].next != index {
                at = self.entries[at as usize].next;
            }
            self.entries[at as usize].next = next;
        }
        let entry = &mut self.entries[index as usize];
        debug_assert!(entry.live, "an entry is freed once");
        entry.live = false;
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        entry.next = self.free;
        self.free = index;
        self.live -= 1;
    }

    /// The live operation with this token.
    pub(super) fn find(&self, token: Token) -> Option<u32> {
        let mut at = self.chains[self.chain(token)];
        while at != NONE {
            let entry = &self.entries[at as usize];
            if entry.token == token {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    /// The entry, when it is still the one the generation belongs to.
    pub(super) fn current(&self, index: u32, generation: u32) -> bool {
        self.entries.get(index as usize).is_some_and(|entry| entry.live && entry.generation == generation)
    }

    pub(super) fn tag(&self, index: u32, part: Part) -> Tag {
        Tag::Op { part, generation: self.entries[index as usize].generation, index }
    }

    /// Makes a cancel wait for its target's end.
    pub(super) fn await_target(&mut self, cancel: u32, target: u32) {
        let head = self.entries[target as usize].canceller;
        self.entries[target as usize].canceller = cancel;
        self.entries[target as usize].cancelling = true;
        let entry = &mut self.entries[cancel as usize];
        entry.sibling = head;
        entry.awaits_target = true;
    }

    /// Takes the next cancel that waits for `target`.
    pub(super) fn pop_canceller(&mut self, target: u32) -> Option<u32> {
        let head = self.entries[target as usize].canceller;
        if head == NONE {
            return None;
        }
        self.entries[target as usize].canceller = self.entries[head as usize].sibling;
        self.entries[head as usize].awaits_target = false;
        Some(head)
    }

    /// Entries in use, by index.
    pub(super) fn iter_live(&self) -> impl Iterator<Item = (u32, &OpEntry)> {
        (0u32..).zip(self.entries.iter()).filter(|(_, entry)| entry.live)
    }
}

impl std::ops::Index<u32> for Ops {
    type Output = OpEntry;

    fn index(&self, index: u32) -> &OpEntry {
        &self.entries[index as usize]
    }
}

impl std::ops::IndexMut<u32> for Ops {
    fn index_mut(&mut self, index: u32) -> &mut OpEntry {
        &mut self.entries[index as usize]
    }
}
