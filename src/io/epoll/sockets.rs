//! The socket table: each socket's descriptor, what is known of its readiness, what is armed on it, and its place
//! in the queue of those that are worth a visit.
//!
//! Readiness is edge-triggered: a report sets a bit, and only a read or a send that found the socket empty or full
//! clears it. So nothing is lost between a report and the operation that wants it.
//!
//! Armed operations are found by their token through chains over the token's index; a link is
//! `socket * INTERESTS + interest`, so there is no table beside this one.
//!
//! Invariants: a link is in a chain exactly while its token is armed; a socket is in the queue at most once, and only
//! while something is armed that wants it.

use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use crate::ids::SockId;
use crate::io::Token;

/// No socket, no link.
const NONE: u32 = u32::MAX;
/// No operation: the kind of this is no token's.
const NO_TOKEN: u64 = u64::MAX;
const CLOSED: RawFd = -1;

/// What may be armed on a socket, each once at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Interest {
    /// `ReceiveShared`, or `Accept` on a listener.
    Take = 0,
    /// `PollReadable`.
    Readable = 1,
    /// `PollWritable`.
    Writable = 2,
}

const INTERESTS: u32 = 3;

impl Interest {
    const ALL: [Interest; INTERESTS as usize] = [Interest::Take, Interest::Readable, Interest::Writable];
}

/// What is known of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    /// Reading may find something.
    pub readable: bool,
    /// Writing may find room.
    pub writable: bool,
    /// A short read does not mean that nothing is left: the end is behind it, or bytes out of band.
    pub read_on: bool,
    /// What is armed as `Take` is an `Accept`.
    pub listener: bool,
    queued: bool,
}

struct Slot {
    tokens: [u64; INTERESTS as usize],
    /// The next link of the chain each token is in.
    chained: [u32; INTERESTS as usize],
    fd: RawFd,
    generation: u32,
    /// Neighbours in the queue; `behind` also chains free slots.
    ahead: u32,
    behind: u32,
    state: State,
}

/// See the module. Owns the descriptors.
pub(super) struct Sockets {
    slots: Vec<Slot>,
    capacity: usize,
    free: u32,
    open: u32,
    armed: u32,
    /// First link by the token's index.
    chains: Box<[u32]>,
    first: u32,
    last: u32,
    queued: u32,
}

impl Sockets {
    /// `connections`: tokens' indices are mostly below this.
    pub(super) fn new(connections: u32, capacity: u32) -> Sockets {
        assert!(capacity < NONE / INTERESTS, "links are counted in u32");
        Sockets {
            slots: Vec::with_capacity(capacity as usize),
            capacity: capacity as usize,
            free: NONE,
            open: 0,
            armed: 0,
            chains: vec![NONE; (connections.max(64) as usize).next_power_of_two()].into_boxed_slice(),
            first: NONE,
            last: NONE,
            queued: 0,
        }
    }

    /// Sockets attached.
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    /// Operations armed.
    pub(super) fn armed(&self) -> u32 {
        self.armed
    }

    /// The id the next socket gets, and the data its reports will carry; `None` when the table is full.
    pub(super) fn next(&self) -> Option<(SockId, u64)> {
        if self.free != NONE {
            let generation = self.slots[self.free as usize].generation;
            return Some((SockId(self.free), data_of(self.free, generation)));
        }
        let index = u32::try_from(self.slots.len()).ok()?;
        (self.slots.len() < self.capacity).then_some((SockId(index), data_of(index, 0)))
    }

    /// Takes a socket in, under the id that `next` has just given. Until a report says otherwise nothing can be read
    /// from it and it can be written to.
    pub(super) fn attach(&mut self, sock: SockId, fd: OwnedFd) {
        let fresh = Slot {
            tokens: [NO_TOKEN; INTERESTS as usize],
            chained: [NONE; INTERESTS as usize],
            fd: fd.into_raw_fd(),
            generation: 0,
            ahead: NONE,
            behind: NONE,
            state: State { writable: true, ..State::default() },
        };
        if sock.0 == self.free {
            let slot = &mut self.slots[sock.index()];
            self.free = slot.behind;
            *slot = Slot { generation: slot.generation, ..fresh };
        } else {
            assert!(sock.index() == self.slots.len(), "a socket goes where the table said");
            self.slots.push(fresh);
        }
        self.open += 1;
    }

    /// Gives a socket up; reports of it that are still to come are recognised as late.
    ///
    /// # Panics
    /// When it is not attached, or something is armed on it.
    pub(super) fn detach(&mut self, sock: SockId) -> OwnedFd {
        let slot = &mut self.slots[sock.index()];
        assert!(slot.fd != CLOSED, "a socket is given up once");
        assert!(
            slot.tokens == [NO_TOKEN; INTERESTS as usize],
            "a socket is given up when no operation on it is outstanding"
        );
        let fd = std::mem::replace(&mut slot.fd, CLOSED);
        slot.generation = slot.generation.wrapping_add(1);
        slot.behind = self.free;
        self.free = sock.0;
        self.open -= 1;
        // SAFETY: the slot owned this descriptor since `attach` and has just let go of it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    /// The socket a report is of; `None` when it has been given up since.
    pub(super) fn reported(&self, data: u64) -> Option<u32> {
        #[allow(clippy::cast_possible_truncation)] // the halves that `data_of` has joined
        let (index, generation) = (data as u32, (data >> 32) as u32);
        let slot = self.slots.get(index as usize)?;
        (slot.fd != CLOSED && slot.generation == generation).then_some(index)
    }

    /// The descriptor, for a call that does not outlast the next use of this table.
    ///
    /// # Panics
    /// When the socket is not attached.
    pub(super) fn fd(&self, sock: u32) -> RawFd {
        let fd = self.slots[sock as usize].fd;
        assert!(fd != CLOSED, "operations name attached sockets");
        fd
    }

    /// As [`Sockets::fd`].
    pub(super) fn borrowed(&self, sock: u32) -> BorrowedFd<'_> {
        // SAFETY: the table owns the descriptor, and nothing closes it while the table is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.fd(sock)) }
    }

    pub(super) fn state(&mut self, sock: u32) -> &mut State {
        &mut self.slots[sock as usize].state
    }

    /// What is armed.
    pub(super) fn token(&self, sock: u32, interest: Interest) -> Option<Token> {
        let raw = self.slots[sock as usize].tokens[interest as usize];
        if raw == NO_TOKEN { None } else { Token::from_raw(raw) }
    }

    /// Arms an operation.
    ///
    /// # Panics
    /// When one of its kind is armed on the socket, or the socket is not attached.
    pub(super) fn arm(&mut self, sock: u32, interest: Interest, token: Token) {
        let chain = self.chain(token);
        let head = self.chains[chain];
        let slot = &mut self.slots[sock as usize];
        assert!(slot.fd != CLOSED, "operations name attached sockets");
        assert!(
            slot.tokens[interest as usize] == NO_TOKEN,
            "a socket has one {interest:?} operation at a time"
        );
        slot.tokens[interest as usize] = token.raw();
        slot.chained[interest as usize] = head;
        self.chains[chain] = link(sock, interest);
        self.armed += 1;
    }

    /// Ends an armed operation; its token.
    ///
    /// # Panics
    /// When none is armed.
    pub(super) fn disarm(&mut self, sock: u32, interest: Interest) -> Token {
        let token = self.token(sock, interest).expect("an operation that ends was armed");
        let slot = &mut self.slots[sock as usize];
        slot.tokens[interest as usize] = NO_TOKEN;
        let next = std::mem::replace(&mut slot.chained[interest as usize], NONE);
        let (chain, gone) = (self.chain(token), link(sock, interest));
        if self.chains[chain] == gone {
            self.chains[chain] = next;
        } else {
            let mut at = self.chains[chain];
            loop {
                let follower = self.follower(at);
                if *follower == gone {
                    *follower = next;
                    break;
                }
                at = *follower;
            }
        }
        self.armed -= 1;
        if interest == Interest::Take {
            self.unqueue(sock);
        }
        token
    }

    /// Where the operation with this token is armed.
    pub(super) fn find(&mut self, token: Token) -> Option<(u32, Interest)> {
        let mut at = self.chains[self.chain(token)];
        while at != NONE {
            let (sock, interest) = (at / INTERESTS, Interest::ALL[(at % INTERESTS) as usize]);
            if self.slots[sock as usize].tokens[interest as usize] == token.raw() {
                return Some((sock, interest));
            }
            at = *self.follower(at);
        }
        None
    }

    fn chain(&self, token: Token) -> usize {
        token.index() as usize & (self.chains.len() - 1)
    }

    fn follower(&mut self, link: u32) -> &mut u32 {
        &mut self.slots[(link / INTERESTS) as usize].chained[(link % INTERESTS) as usize]
    }

    /// Sockets in the queue.
    pub(super) fn queued(&self) -> u32 {
        self.queued
    }

    /// Puts a socket behind the others, if it is not among them.
    pub(super) fn queue(&mut self, sock: u32) {
        let last = self.last;
        let slot = &mut self.slots[sock as usize];
        if slot.state.queued {
            return;
        }
        slot.state.queued = true;
        (slot.ahead, slot.behind) = (last, NONE);
        match self.slots.get_mut(last as usize) {
            Some(last) => last.behind = sock,
            None => self.first = sock,
        }
        self.last = sock;
        self.queued += 1;
    }

    /// The socket whose turn it is.
    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// Takes a socket out of the queue, if it is there.
    pub(super) fn unqueue(&mut self, sock: u32) {
        let slot = &mut self.slots[sock as usize];
        if !slot.state.queued {
            return;
        }
        slot.state.queued = false;
        let (ahead, behind) = (slot.ahead, slot.behind);
        match self.slots.get_mut(ahead as usize) {
            Some(slot) => slot.behind = behind,
            None => self.first = behind,
        }
        match self.slots.get_mut(behind as usize) {
            Some(slot) => slot.ahead = ahead,
            None => self.last = ahead,
        }
        self.queued -= 1;
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for slot in &self.slots {
            if slot.fd != CLOSED {
                // SAFETY: the slot owns the descriptor, and nothing uses it after this.
                drop(unsafe { OwnedFd::from_raw_fd(slot.fd) });
            }
        }
    }
}

const fn link(sock: u32, interest: Interest) -> u32 {
    sock * INTERESTS + interest as u32
}

/// What a report of a socket carries.
fn data_of(index: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}
