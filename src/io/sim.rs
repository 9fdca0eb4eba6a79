//! The kernel of a simulated server: [`Scripted`] does what is asked for, and this decides when that is told, and what
//! goes wrong on the way.
//!
//! State and owner: the completions that have happened and not been told, each with the time at which it is; sends that
//! were taken and are yet to be carried out; what operations in flight read from and have written to. Time stands still
//! but for what the world sets.
//!
//! Invariants, and with them what is asserted here:
//! - completions of one operation are told in order, a cancel's behind its target's, and so is what was received into
//!   the shared ring; those of different operations in any;
//! - from the moment an operation is submitted until its completion is handed out its memory is the kernel's, so no byte
//!   under a send, and none that was received, changes before; a send may read it at any moment of that time;
//! - a token names one operation at a time, until its last completion is handed out;
//! - each byte of the shared ring is in the kernel's account or in the shard's.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::scripted::{LISTS, Scripted};
use super::{
    BufId, Capabilities, Clock, Completion, Completions, FileHandle, Io, IoError, IoFatal, Op, Outcome,
    Refused, RegionId, SockId, SocketHandle, SpanListId, Token, TokenKind, Wait, WakeHandle,
};
use crate::buf::{Mapping, Span};
use crate::ids::FileId;
use crate::mutation::{self, Mutation};
use crate::sim::plan::{Faults, MS, US};
use crate::sim::random::Random;

/// Which shards were woken by others.
pub type Wakes = Rc<RefCell<Vec<usize>>>;

/// How an accept may fail: with it the process or the kernel is short of something.
const ACCEPT_ERRORS: [IoError; 3] = [IoError::NoDescriptors, IoError::NoMemory, IoError::Os(libc::EPERM)];

/// A completion that is yet to be told.
#[derive(Debug)]
struct Late {
    at_ns: u64,
    number: u64,
    completion: Completion,
    /// Memory it is about, and its bytes' checksum.
    holds: Vec<(Span, u32)>,
    /// A send's list.
    sent: Option<SpanListId>,
    /// Bytes that it takes of the shared ring.
    filled: u64,
}

/// A send that is taken and not carried out.
#[derive(Debug)]
struct Unsent {
    at_ns: u64,
    sock: SockId,
    list: SpanListId,
    token: Token,
}

impl PartialEq for Late {
    fn eq(&self, other: &Late) -> bool {
        self.number == other.number
    }
}

impl Eq for Late {}

impl PartialOrd for Late {
    fn partial_cmp(&self, other: &Late) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Late {
    fn cmp(&self, other: &Late) -> std::cmp::Ordering {
        (self.at_ns, self.number).cmp(&(other.at_ns, other.number))
    }
}

/// See the module.
pub struct SimIo {
    /// The kernel without its faults.
    pub inner: Scripted,
    shard: usize,
    shared: RegionId,
    /// See `KernelPlan`.
    pub single_shots: bool,
    faults: Faults,
    random: Random,
    late: BinaryHeap<Reverse<Late>>,
    numbers: u64,
    /// When the last completion of an operation is told: the next is not told before.
    told_ns: HashMap<Token, u64>,
    /// Operations that have not come to their end, as the shard knows it.
    live: HashSet<Token>,
    /// Cancels that have not been told, each with its target.
    cancels: Vec<(Token, Token)>,
    /// What waits for a socket: a poll that may report without cause, or an accept that may fail.
    armed: Vec<Token>,
    /// Likewise of everything that was received into the shared ring, which fills in order.
    received_ns: u64,
    /// What sends in flight read from, and the list that says so: it is the shard's again when it is told.
    sending: HashMap<Token, (SpanListId, Vec<(Span, u32)>)>,
    unsent: Vec<Unsent>,
    lists: Vec<Option<Vec<Span>>>,
    /// Where a read in flight puts what it reads.
    reading: HashMap<Token, Span>,
    reaped: Completions,
    wakes: Wakes,
    /// Completions handed out.
    pub told: u64,
}

impl SimIo {
    /// The kernel as one shard sees it.
    pub fn new(inner: Scripted, shard: usize, shared: RegionId, random: Random, wakes: Wakes) -> SimIo {
        SimIo {
            inner,
            shard,
            shared,
            single_shots: false,
            faults: Faults::default(),
            random,
            late: BinaryHeap::new(),
            numbers: 0,
            told_ns: HashMap::new(),
            live: HashSet::new(),
            cancels: Vec::new(),
            armed: Vec::new(),
            received_ns: 0,
            sending: HashMap::new(),
            unsent: Vec::new(),
            lists: (0..LISTS).map(|_| None).collect(),
            reading: HashMap::new(),
            reaped: Completions::with_capacity(256),
            wakes,
            told: 0,
        }
    }

    /// What goes wrong from now on.
    pub fn set_faults(&mut self, faults: &Faults) {
        self.faults = faults.clone();
    }

    /// When the next completion is to be told, if any waits.
    #[must_use]
    pub fn next_ns(&self) -> Option<u64> {
        let told = self.late.peek().map(|Reverse(late)| late.at_ns);
        self.unsent.iter().map(|unsent| unsent.at_ns).chain(told).min()
    }

    /// Completions that have not been told.
    #[must_use]
    pub fn untold(&self) -> usize {
        self.late.len() + self.unsent.len()
    }

    /// Lists of spans that are not free.
    #[must_use]
    pub fn lists_in_use(&self) -> usize {
        self.lists.iter().flatten().count() + self.inner.lists_in_use()
    }

    /// Bytes of the shared ring that the kernel can still fill, as a shard that has not been told everything sees it.
    #[must_use]
    pub fn shared_free_bytes(&self) -> u64 {
        let untold: u64 = self.late.iter().map(|Reverse(late)| late.filled).sum();
        self.inner.free_bytes() + untold
    }

    fn checksum(&self, span: Span) -> u32 {
        crate::proto::checksum::crc32c(self.inner.bytes(span))
    }

    fn hold(&mut self, completion: Completion) {
        let now_ns = self.inner.now.mono_ns;
        let late = self.random.chance(self.faults.late);
        let delay_ns = self.random.below(if late { 8 * MS } else { 20 * US });
        let told_ns = |token| self.told_ns.get(token).copied().unwrap_or(0);
        let mut at_ns = (now_ns + delay_ns).max(told_ns(&completion.token));
        if completion.token.kind() == TokenKind::Cancel {
            let of_this = self.cancels.iter().filter(|(cancel, _)| *cancel == completion.token);
            at_ns = of_this.map(|(_, target)| told_ns(target)).fold(at_ns, u64::max);
        }
        if let Outcome::Received { .. } = completion.outcome {
            at_ns = at_ns.max(self.received_ns);
            self.received_ns = at_ns;
        }
        self.told_ns.insert(completion.token, at_ns);
        let (mut holds, mut sent, mut filled) = (Vec::new(), None, 0);
        match completion.outcome {
            Outcome::Received { buffer, at, bytes, buffer_done } => {
                let end = (u64::from(buffer.0) + 1) * self.inner.buffer_bytes();
                filled = if buffer_done { end - at } else { bytes.into() };
                let span = Span { region: self.shared, at, bytes };
                holds.push((span, self.checksum(span)));
            }
            Outcome::Read { bytes } => {
                if let Some(into) = self.reading.remove(&completion.token) {
                    let span = Span { bytes, ..into };
                    holds.push((span, self.checksum(span)));
                }
            }
            _ => {}
        }
        if !completion.more {
            self.armed.retain(|token| *token != completion.token);
            self.reading.remove(&completion.token);
            if let Some((list, held)) = self.sending.remove(&completion.token) {
                holds.extend(held);
                sent = Some(list);
            }
        }
        self.numbers += 1;
        self.late.push(Reverse(Late { at_ns, number: self.numbers, completion, holds, sent, filled }));
    }

    /// The kernel works, and what has happened is told from some time on.
    pub fn take_in(&mut self) {
        self.carry_out();
        self.disturb();
        let mut reaped = std::mem::replace(&mut self.reaped, Completions::with_capacity(0));
        loop {
            self.inner.reap(Wait::No, &mut reaped).expect("a scripted world goes on");
            let all = reaped.len() < reaped.capacity();
            if all {
                // Else there may be more of a receive than is seen here.
                self.end_receives(&mut reaped);
            }
            for completion in reaped.drain(..) {
                self.hold(completion);
            }
            if all {
                break;
            }
        }
        self.reaped = reaped;
    }

    /// Sends whose time has come.
    fn carry_out(&mut self) {
        let now_ns = self.inner.now.mono_ns;
        let (due, later) =
            std::mem::take(&mut self.unsent).into_iter().partition(|unsent: &Unsent| unsent.at_ns <= now_ns);
        self.unsent = later;
        for unsent in due {
            self.send(unsent.sock, unsent.list, unsent.token);
        }
    }

    fn send(&mut self, sock: SockId, list: SpanListId, token: Token) {
        let spans = self.lists[list.0 as usize].clone().expect("a list in use");
        let inner = self.inner.span_list().expect("it has as many");
        spans.iter().for_each(|&span| self.inner.push_span(inner, span));
        self.inner.submit(Op::Send { sock, spans: inner }, token).expect("a scripted world takes everything");
    }

    /// Receives that go on may end behind any report, and accepts, where the kernel knows no others.
    fn end_receives(&mut self, reaped: &mut [Completion]) {
        for at in 0..reaped.len() {
            let Completion { token, outcome, more } = reaped[at];
            let receives = matches!(outcome, Outcome::Received { .. });
            let accepts = matches!(outcome, Outcome::Accepted { .. });
            let last = more
                && (receives || accepts && self.single_shots)
                && reaped[at + 1..].iter().all(|other| other.token != token);
            if last
                && (self.single_shots || self.random.chance(self.faults.receives_end))
                && self.inner.disarm(token)
            {
                reaped[at].more = false;
            }
        }
    }

    /// Polls report without a cause; accepts fail.
    fn disturb(&mut self) {
        if self.armed.is_empty() || !self.random.chance(self.faults.spurious) {
            return;
        }
        let token = self.random.pick(&self.armed);
        let more = token.kind() == TokenKind::Readable;
        if !more && !self.inner.disarm(token) {
            return;
        }
        let outcome = match token.kind() {
            TokenKind::Accept => Outcome::Failed(self.random.pick(&ACCEPT_ERRORS)),
            _ => Outcome::Ready,
        };
        self.hold(Completion { token, outcome, more });
    }

    fn tell(&mut self, late: Late, out: &mut Completions) {
        let unlooked = [Mutation::FreeUnderSend, Mutation::DropUnderSend, Mutation::ReceiveUnheld];
        let unlooked = unlooked.into_iter().any(mutation::on);
        for (span, checksum) in late.holds.iter().filter(|_| !unlooked) {
            assert_eq!(
                self.checksum(*span),
                *checksum,
                "memory changed while it was the kernel's: {span:?} under {:?}",
                late.completion
            );
        }
        if let Some(list) = late.sent {
            self.drop_span_list(list);
        }
        let token = late.completion.token;
        if !late.completion.more {
            self.live.remove(&token);
            self.told_ns.remove(&token);
            self.cancels.retain(|(cancel, _)| *cancel != token);
        }
        self.told += 1;
        out.push(late.completion);
    }
}

impl Io for SimIo {
    fn submit(&mut self, op: Op, token: Token) -> Result<(), Refused> {
        // The cancels of one connection share theirs: nothing is done at their ends but to count them.
        let alone = self.live.insert(token)
            || token.kind() == TokenKind::Cancel
            || mutation::on(Mutation::ReuseToken);
        assert!(alone, "two operations of the same name: {op:?} {token:?}");
        match op {
            Op::Send { sock, spans: list } => {
                let spans = self.lists[list.0 as usize].clone().expect("a list in use");
                let held = spans.into_iter().map(|span| (span, self.checksum(span))).collect();
                self.sending.insert(token, (list, held));
                if self.random.chance(self.faults.late) {
                    let at_ns = self.inner.now.mono_ns + self.random.below(4 * MS);
                    self.unsent.push(Unsent { at_ns, sock, list, token });
                } else {
                    self.send(sock, list, token);
                }
                return Ok(());
            }
            Op::Cancel { target } => self.cancels.push((token, target)),
            Op::Accept { .. } | Op::PollReadable { .. } | Op::PollWritable { .. } => self.armed.push(token),
            Op::Read { into, .. } => {
                self.reading.insert(token, into);
            }
            _ => {}
        }
        self.inner.submit(op, token)
    }

    fn reap(&mut self, _wait: Wait, out: &mut Completions) -> Result<(), IoFatal> {
        self.take_in();
        let most =
            if self.random.chance(self.faults.pressure) { self.random.index(4) } else { out.capacity() };
        let mut told = 0;
        while out.len() < out.capacity() && told < most {
            let due = self.late.peek().is_some_and(|Reverse(late)| late.at_ns <= self.inner.now.mono_ns);
            if !due {
                break;
            }
            let Reverse(late) = self.late.pop().expect("one is there");
            self.tell(late, out);
            told += 1;
        }
        Ok(())
    }

    fn recycle(&mut self, buffer: BufId) {
        self.inner.recycle(buffer);
    }

    fn span_list(&mut self) -> Option<SpanListId> {
        if self.random.chance(self.faults.no_lists) {
            return None;
        }
        let free = self.lists.iter().position(Option::is_none)?;
        self.lists[free] = Some(Vec::new());
        Some(SpanListId(u32::try_from(free).expect("few lists")))
    }

    fn push_span(&mut self, list: SpanListId, span: Span) {
        self.lists[list.0 as usize].as_mut().expect("a list in use").push(span);
    }

    fn drop_span_list(&mut self, list: SpanListId) {
        self.lists[list.0 as usize] = None;
    }

    fn attach(&mut self, socket: SocketHandle) -> Result<SockId, (IoError, SocketHandle)> {
        self.inner.attach(socket)
    }

    fn detach(&mut self, sock: SockId) -> SocketHandle {
        self.inner.detach(sock)
    }

    fn attach_file(&mut self, file: FileHandle) -> Result<FileId, (IoError, FileHandle)> {
        self.inner.attach_file(file)
    }

    fn detach_file(&mut self, file: FileId) -> FileHandle {
        self.inner.detach_file(file)
    }

    fn attach_region(&mut self, id: RegionId, mapping: &Arc<Mapping>, receive: bool) {
        self.inner.attach_region(id, mapping, receive);
    }

    fn detach_region(&mut self, id: RegionId) {
        self.inner.detach_region(id);
    }

    fn clock(&mut self) -> Clock {
        self.inner.now
    }

    fn wake_handle(&self) -> WakeHandle {
        let shard = i32::try_from(self.shard).expect("few shards");
        WakeHandle { event: None, ring_fd: shard }
    }

    fn wake(&mut self, peer: &WakeHandle) {
        self.wakes.borrow_mut().push(usize::try_from(peer.ring_fd).expect("a shard's number"));
    }

    fn overflows(&self) -> u64 {
        0
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
}
