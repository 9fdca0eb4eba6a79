//! A world for tests, wholly in memory: sockets are byte queues, the kernel does only what the test lets
//! it, and every range received into and sent from is recorded.
//!
//! It keeps the contract of [`Io`]: positions, buffers and completions behave as the backends' do, so that
//! a shard can be stepped through any split of its input and any shortage of room. Several worlds may share
//! their sockets, for shards that hand connections to each other, and a disk (`disk`).
#![allow(unsafe_code)]

use std::cell::{RefCell, RefMut};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::{
    BufId, Capabilities, Clock, Completion, Completions, FileHandle, Io, IoError, IoFatal, Op, Outcome,
    Refused, RegionId, SockId, SocketHandle, SpanListId, Token, Wait, WakeHandle,
};
use crate::buf::{Mapping, Span};
use crate::ids::FileId;
use crate::limits::FILES_PER_SHARD;

pub mod disk;

use disk::{DiskOp, SimDisk};

/// Sends in flight.
pub(super) const LISTS: usize = 64;

/// One end of a connection, as the test sees it.
#[derive(Debug, Default)]
pub struct Peer {
    /// What the client has sent and the server has not received.
    pub inbound: VecDeque<u8>,
    /// What the server has sent.
    pub outbound: Vec<u8>,
    /// Bytes the socket still takes.
    pub room: usize,
    /// The client has closed its side.
    pub ended: bool,
    /// The client is gone: sends and receives fail.
    pub reset: bool,
    /// With this error, where it is not that the peer is gone.
    pub reset_by: Option<IoError>,
    /// The server has shut its side down.
    pub finished: bool,
    /// The server has closed the socket.
    pub closed: bool,
    /// At most this many bytes are received at a time.
    pub receive_max: usize,
    /// Clients connect to it: every world holds it.
    pub listens: bool,
    /// The world that holds the socket: no other may touch it.
    held_by: Option<RegionId>,
    receive: Option<Token>,
    readable: Option<Token>,
    writable: Option<Token>,
}

impl Peer {
    /// What clients connect to.
    pub fn listener() -> Peer {
        Peer { listens: true, ..Peer::default() }
    }

    /// What comes of an operation on a socket that was reset.
    fn failed(&self) -> Outcome {
        Outcome::Failed(self.reset_by.unwrap_or(IoError::PeerGone))
    }
}

/// The first bytes, all at once: one by one is what a simulation would spend its time with.
fn take_front(from: &mut VecDeque<u8>, bytes: usize) -> Vec<u8> {
    let mut taken = Vec::with_capacity(bytes);
    let (front, back) = from.as_slices();
    let of_front = front.len().min(bytes);
    taken.extend_from_slice(&front[..of_front]);
    taken.extend_from_slice(&back[..bytes - of_front]);
    from.drain(..bytes);
    taken
}

/// Every socket, by its id; 0 is a listener.
pub type Sockets = Rc<RefCell<Vec<Peer>>>;

/// The disk of one or more worlds.
pub type Disk = Rc<RefCell<SimDisk>>;

/// See the module.
pub struct Scripted {
    peers: Sockets,
    disk: Disk,
    /// The handles of attached files.
    files: Vec<Option<u64>>,
    /// Operations on files that have not been reaped.
    on_files: Vec<(Token, FileId)>,
    /// Cancels of these: (target, cancel).
    awaiting: Vec<(Token, Token)>,
    /// Ranges of receive memory that were received into: (connection, span).
    pub received: Vec<(SockId, Span)>,
    /// Spans that were sent, in order.
    pub sent: Vec<(SockId, Span, u32)>,
    /// The clock.
    pub now: Clock,
    shared: RegionId,
    buffer_bytes: u64,
    free: VecDeque<BufId>,
    filled: u64,
    /// Listeners that accept.
    accepts: Vec<(SockId, Token)>,
    /// Who has connected to which listener.
    arriving: VecDeque<(SockId, SockId)>,
    regions: HashMap<RegionId, Arc<Mapping>>,
    lists: Vec<Option<Vec<Span>>>,
    /// Lists whose send has not been reported yet.
    flying: Vec<(Token, SpanListId)>,
    ready: VecDeque<Completion>,
    capabilities: Capabilities,
    /// A buffer may come back with nothing in it where a stream ends.
    pub empty_buffers: bool,
}

impl Scripted {
    /// A world whose shared ring has `buffers` incremental buffers.
    pub fn new(shared: RegionId, mapping: &Arc<Mapping>, buffers: u16) -> Self {
        let mut world = Scripted {
            peers: Rc::new(RefCell::new(vec![Peer::listener()])),
            disk: Rc::new(RefCell::new(SimDisk::new())),
            files: Vec::new(),
            on_files: Vec::new(),
            awaiting: Vec::new(),
            received: Vec::new(),
            sent: Vec::new(),
            now: Clock { mono_ns: 1_000_000_000, wall_ns: 1_700_000_000_000_000_000 },
            shared,
            buffer_bytes: (mapping.bytes() / usize::from(buffers)) as u64,
            free: (0..buffers).map(BufId).collect(),
            filled: 0,
            accepts: Vec::new(),
            arriving: VecDeque::new(),
            regions: HashMap::new(),
            lists: (0..LISTS).map(|_| None).collect(),
            flying: Vec::new(),
            ready: VecDeque::new(),
            capabilities: Capabilities {
                backend: "scripted",
                tier: 0,
                incremental_buffers: true,
                shared_buffers: buffers,
                registered_regions: false,
                ring_messages: false,
                direct_descriptors: false,
            },
            empty_buffers: false,
        };
        world.regions.insert(shared, mapping.clone());
        world
    }

    /// Each receive takes a whole buffer, as kernels before 6.12 do.
    pub fn whole_buffers(&mut self) {
        self.capabilities.incremental_buffers = false;
    }

    /// Bytes that can be received before a buffer is recycled.
    pub fn free_bytes(&self) -> u64 {
        self.free.len() as u64 * self.buffer_bytes - self.filled
    }

    /// Bytes of one buffer of the shared ring.
    pub fn buffer_bytes(&self) -> u64 {
        self.buffer_bytes
    }

    /// Lets what waits for a socket end without a word; `false` when it has ended already.
    pub(super) fn disarm(&mut self, target: Token) -> bool {
        let accepts = self.accepts.len();
        self.accepts.retain(|(_, token)| *token != target);
        let mut found = self.accepts.len() < accepts;
        let held_by = Some(self.shared);
        for peer in self.peers.borrow_mut().iter_mut().filter(|peer| peer.held_by == held_by) {
            for armed in [&mut peer.receive, &mut peer.readable, &mut peer.writable] {
                found |= armed.take_if(|token| *token == target).is_some();
            }
        }
        found
    }

    /// The sockets, to be shared with another world.
    pub fn sockets(&self) -> Sockets {
        Rc::clone(&self.peers)
    }

    /// Sockets may come from and go to the other worlds that have these.
    pub fn share(&mut self, sockets: Sockets) {
        self.peers = sockets;
    }

    /// The disk, to be controlled, or shared with another world.
    pub fn disk(&self) -> Disk {
        Rc::clone(&self.disk)
    }

    /// Files are this disk's from now on.
    ///
    /// # Panics
    /// When there are files of another.
    pub fn share_disk(&mut self, disk: Disk) {
        assert!(self.files.iter().all(Option::is_none), "no file of another disk is attached");
        self.disk = disk;
    }

    /// Files attached.
    pub fn files(&self) -> usize {
        self.files.iter().flatten().count()
    }

    /// A client connects to the first listener.
    pub fn connect(&mut self) -> SockId {
        self.connect_to(SockId(0))
    }

    /// A client connects.
    ///
    /// # Panics
    /// When that is no listener.
    pub fn connect_to(&mut self, listener: SockId) -> SockId {
        assert!(self.peer(listener).listens, "{listener} is a listener");
        let mut peers = self.peers.borrow_mut();
        let sock = SockId(u32::try_from(peers.len()).expect("few peers"));
        peers.push(Peer { room: usize::MAX, receive_max: usize::MAX, ..Peer::default() });
        self.arriving.push_back((listener, sock));
        sock
    }

    /// The client's view of a connection.
    pub fn peer(&self, sock: SockId) -> RefMut<'_, Peer> {
        RefMut::map(self.peers.borrow_mut(), |peers| &mut peers[sock.index()])
    }

    /// A socket this world holds.
    fn own(&self, sock: SockId) -> RefMut<'_, Peer> {
        let peer = self.peer(sock);
        assert_eq!(peer.held_by, Some(self.shared), "socket {sock} is this world's");
        peer
    }

    fn holds(&self, sock: SockId) -> bool {
        self.peer(sock).held_by == Some(self.shared)
    }

    /// Lists of spans that are not free.
    pub fn lists_in_use(&self) -> usize {
        self.lists.iter().flatten().count()
    }

    /// Completions that have not been reaped.
    pub fn completed(&self) -> usize {
        self.ready.len()
    }

    /// Operations that are armed and would complete some day.
    pub fn armed(&self) -> usize {
        let armed = |peer: &Peer| {
            usize::from(peer.receive.is_some())
                + usize::from(peer.readable.is_some())
                + usize::from(peer.writable.is_some())
        };
        let peers = self.peers.borrow();
        peers.iter().filter(|peer| peer.held_by == Some(self.shared)).map(armed).sum()
    }

    fn complete(&mut self, token: Token, outcome: Outcome, more: bool) {
        self.ready.push_back(Completion { token, outcome, more });
    }

    fn write(&mut self, region: RegionId, at: u64, bytes: &[u8]) {
        let mapping = &self.regions[&region];
        let at = usize::try_from(at).expect("regions are small");
        assert!(at + bytes.len() <= mapping.address_bytes(), "a received range lies in its region");
        // SAFETY: the range was checked; it is the kernel's to fill (a free buffer, or the target of a read
        // in flight), so the shard has no reference to it while it is written.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), mapping.base().add(at), bytes.len()) }
    }

    /// What lies in memory that an operation names.
    pub(super) fn bytes(&self, span: Span) -> &[u8] {
        let mapping = &self.regions[&span.region];
        let at = usize::try_from(span.at).expect("regions are small");
        assert!(at + span.bytes as usize <= mapping.address_bytes(), "a range lies in its region");
        // SAFETY: the range was checked; the shard gave it away with the operation and does not write to it while this
        // world looks, on the same thread.
        unsafe { std::slice::from_raw_parts(mapping.base().add(at), span.bytes as usize) }
    }

    /// The world that holds a socket, by its shared ring's region.
    pub fn holder(&self, sock: SockId) -> Option<RegionId> {
        self.peer(sock).held_by
    }

    /// Lets the kernel work: accepts, receives, polls.
    fn work(&mut self) {
        for (listener, sock) in std::mem::take(&mut self.arriving) {
            let accept = self.accepts.iter().find(|(of, _)| *of == listener);
            let Some(&(_, token)) = accept else {
                self.arriving.push_back((listener, sock));
                continue;
            };
            let peer = IpAddr::from([127, 0, 0, 1]);
            self.peer(sock).held_by = Some(self.shared);
            self.complete(token, Outcome::Accepted { sock, peer }, true);
        }
        let count = u32::try_from(self.peers.borrow().len()).expect("few peers");
        for sock in (1..count).map(SockId) {
            if self.holds(sock) {
                self.receive(sock);
                self.poll(sock);
            }
        }
    }

    /// The multishot receive of one socket: one report for each buffer's worth.
    fn receive(&mut self, sock: SockId) {
        let Some(token) = self.own(sock).receive else { return };
        loop {
            let mut peer = self.own(sock);
            let ended = if peer.reset {
                Some(peer.failed())
            } else if peer.inbound.is_empty() {
                if !peer.ended {
                    return;
                }
                Some(Outcome::EndOfStream)
            } else if self.free.is_empty() {
                Some(Outcome::Failed(IoError::NoBuffers))
            } else {
                None
            };
            if let Some(outcome) = ended {
                peer.receive = None;
                drop(peer);
                if self.empty_buffers && !self.free.is_empty() {
                    self.give_back_a_buffer(token);
                }
                return self.complete(token, outcome, false);
            }
            let room = usize::try_from(self.buffer_bytes - self.filled).expect("buffers are small");
            let take = peer.inbound.len().min(peer.receive_max).min(room);
            let data = take_front(&mut peer.inbound, take);
            drop(peer);
            let buffer = self.free[0];
            let bytes = u32::try_from(take).expect("buffers are small");
            let at = u64::from(buffer.0) * self.buffer_bytes + self.filled;
            self.write(self.shared, at, &data);
            self.received.push((sock, Span { region: self.shared, at, bytes }));
            self.filled += u64::from(bytes);
            let whole = !self.capabilities.incremental_buffers;
            let buffer_done = whole || self.filled == self.buffer_bytes;
            if buffer_done {
                self.free.pop_front();
                self.filled = 0;
            }
            self.complete(token, Outcome::Received { buffer, at, bytes, buffer_done }, true);
        }
    }

    /// The buffer that is filled next is done, with nothing more in it.
    fn give_back_a_buffer(&mut self, token: Token) {
        let buffer = self.free.pop_front().expect("one is free");
        let at = u64::from(buffer.0) * self.buffer_bytes + self.filled;
        self.filled = 0;
        self.complete(token, Outcome::Received { buffer, at, bytes: 0, buffer_done: true }, true);
    }

    fn poll(&mut self, sock: SockId) {
        let mut peer = self.own(sock);
        let readable = !peer.inbound.is_empty() || peer.ended || peer.reset;
        let writable = peer.room > 0 || peer.reset;
        let (read, write) = (peer.readable.filter(|_| readable), peer.writable.take_if(|_| writable));
        drop(peer);
        if let Some(token) = read {
            self.complete(token, Outcome::Ready, true);
        }
        if let Some(token) = write {
            self.complete(token, Outcome::Ready, false);
        }
    }

    fn read(&mut self, sock: SockId, into: Span) -> Outcome {
        let mut peer = self.own(sock);
        if peer.reset {
            return peer.failed();
        }
        let take = peer.inbound.len().min(into.bytes as usize).min(peer.receive_max);
        if take == 0 {
            return if peer.ended { Outcome::EndOfStream } else { Outcome::Failed(IoError::WouldBlock) };
        }
        let data = take_front(&mut peer.inbound, take);
        drop(peer);
        let bytes = u32::try_from(take).expect("regions are small");
        self.write(into.region, into.at, &data);
        self.received.push((sock, Span { bytes, ..into }));
        Outcome::Read { bytes }
    }

    fn send(&mut self, sock: SockId, list: SpanListId) -> Outcome {
        let spans = self.lists[list.0 as usize].clone().expect("a sent list was filled");
        assert!(!self.own(sock).finished, "nothing is sent behind the end that was said");
        if self.own(sock).reset {
            return self.own(sock).failed();
        }
        let mut sent = 0;
        for span in spans {
            let data = self.bytes(span).to_vec();
            let mut peer = self.own(sock);
            let take = data.len().min(peer.room);
            if take > 0 {
                peer.outbound.extend_from_slice(&data[..take]);
                peer.room -= take;
                drop(peer);
                let bytes = u32::try_from(take).expect("regions are small");
                self.sent.push((sock, span, bytes));
                sent += bytes;
            }
            if take < data.len() {
                break;
            }
        }
        if sent == 0 { Outcome::Failed(IoError::WouldBlock) } else { Outcome::Sent { bytes: sent } }
    }

    fn on_file(
        &mut self,
        op: DiskOp,
        file: FileId,
        at: u64,
        span: Option<Span>,
        token: Token,
    ) -> Result<(), Refused> {
        let handle = self.files[file.index()].expect("operations name attached files");
        let memory = span.map(|span| (&self.regions[&span.region], span));
        self.disk.borrow_mut().submit((self.shared, token), op, handle, at, memory);
        self.on_files.push((token, file));
        Ok(())
    }

    /// What was waiting for this operation to end, once it has been handed out.
    fn ended(&mut self, token: Token) {
        let Some(at) = self.on_files.iter().position(|(of, _)| *of == token) else { return };
        self.on_files.remove(at);
        for (target, cancel) in std::mem::take(&mut self.awaiting) {
            if target == token {
                self.complete(cancel, Outcome::Done, false);
            } else {
                self.awaiting.push((target, cancel));
            }
        }
    }

    fn cancel(&mut self, target: Token) {
        if self.disarm(target) {
            self.complete(target, Outcome::Failed(IoError::Cancelled), false);
        }
    }
}

impl Io for Scripted {
    fn submit(&mut self, op: Op, token: Token) -> Result<(), Refused> {
        let outcome = match op {
            Op::Accept { listener } => {
                self.accepts.retain(|(of, _)| *of != listener);
                self.accepts.push((listener, token));
                return Ok(());
            }
            Op::ReceiveShared { sock } => {
                let before = self.own(sock).receive.replace(token);
                assert!(before.is_none(), "armed once at a time");
                return Ok(());
            }
            Op::PollReadable { sock } => {
                let before = self.own(sock).readable.replace(token);
                assert!(before.is_none(), "armed once at a time");
                return Ok(());
            }
            Op::PollWritable { sock } => {
                let before = self.own(sock).writable.replace(token);
                assert!(before.is_none(), "armed once at a time");
                return Ok(());
            }
            Op::Read { sock, into } => self.read(sock, into),
            Op::Send { sock, spans } => {
                self.flying.push((token, spans));
                self.send(sock, spans)
            }
            Op::Cancel { target } if self.on_files.iter().any(|(of, _)| *of == target) => {
                self.awaiting.push((target, token));
                return Ok(());
            }
            Op::Cancel { target } => {
                self.cancel(target);
                Outcome::Done
            }
            Op::WriteFile { file, at, from } => {
                return self.on_file(DiskOp::Write, file, at, Some(from), token);
            }
            Op::WriteFileDurably { file, at, from } => {
                return self.on_file(DiskOp::DurableWrite, file, at, Some(from), token);
            }
            Op::ReadFile { file, at, into } => {
                return self.on_file(DiskOp::Read, file, at, Some(into), token);
            }
            Op::SyncFile { file } => return self.on_file(DiskOp::Sync, file, 0, None, token),
            Op::ShutdownWrite { sock } => {
                self.own(sock).finished = true;
                Outcome::Done
            }
            Op::Close { sock } => {
                let mut peer = self.own(sock);
                assert!(
                    peer.receive.is_none() && peer.readable.is_none() && peer.writable.is_none(),
                    "closed while armed"
                );
                peer.closed = true;
                peer.held_by = None;
                Outcome::Done
            }
        };
        self.complete(token, outcome, false);
        Ok(())
    }

    fn reap(&mut self, _wait: Wait, out: &mut Completions) -> Result<(), IoFatal> {
        self.work();
        self.disk.borrow_mut().reap(self.shared, &mut self.ready);
        while out.len() < out.capacity() {
            let Some(completion) = self.ready.pop_front() else { break };
            if let Some(at) = self.flying.iter().position(|(token, _)| *token == completion.token) {
                let (_, list) = self.flying.swap_remove(at);
                self.lists[list.0 as usize] = None;
            }
            out.push(completion);
            self.ended(completion.token);
        }
        Ok(())
    }

    fn recycle(&mut self, buffer: BufId) {
        self.free.push_back(buffer);
    }

    fn span_list(&mut self) -> Option<SpanListId> {
        let index = self.lists.iter().position(Option::is_none)?;
        self.lists[index] = Some(Vec::new());
        Some(SpanListId(u32::try_from(index).expect("few lists")))
    }

    fn push_span(&mut self, list: SpanListId, span: Span) {
        self.lists[list.0 as usize].as_mut().expect("a list in use").push(span);
    }

    fn drop_span_list(&mut self, list: SpanListId) {
        self.lists[list.0 as usize] = None;
    }

    fn attach(&mut self, socket: SocketHandle) -> Result<SockId, (IoError, SocketHandle)> {
        match socket {
            SocketHandle::Simulated(index) => {
                let sock = SockId(u32::try_from(index).expect("few sockets"));
                let mut peer = self.peer(sock);
                let before = peer.held_by.replace(self.shared);
                assert!(before.is_none() || peer.listens, "a socket is one world's at a time");
                drop(peer);
                Ok(sock)
            }
            SocketHandle::Fd(_) => unreachable!("this world has no descriptors"),
        }
    }

    fn detach(&mut self, sock: SockId) -> SocketHandle {
        let mut peer = self.own(sock);
        let armed = [peer.receive, peer.readable, peer.writable];
        assert!(armed.iter().all(Option::is_none), "given up with an operation outstanding");
        peer.held_by = None;
        SocketHandle::Simulated(u64::from(sock.0))
    }

    fn attach_file(&mut self, file: FileHandle) -> Result<FileId, (IoError, FileHandle)> {
        let FileHandle::Simulated(handle) = file else { unreachable!("this world has no descriptors") };
        if !self.disk.borrow().is_current(handle) {
            return Err((IoError::Os(libc::ESTALE), file));
        }
        let free = self.files.iter().position(Option::is_none);
        let index = free.unwrap_or(self.files.len());
        if index == FILES_PER_SHARD {
            return Err((IoError::NoDescriptors, file));
        }
        if free.is_none() {
            self.files.push(None);
        }
        self.files[index] = Some(handle);
        Ok(FileId(u32::try_from(index).expect("few files")))
    }

    fn detach_file(&mut self, file: FileId) -> FileHandle {
        let handle = self.files[file.index()].take().expect("a file is given up once");
        let idle = self.on_files.iter().all(|(_, of)| *of != file);
        assert!(
            idle || !self.disk.borrow().is_current(handle),
            "a file is given up when no operation on it is outstanding"
        );
        FileHandle::Simulated(handle)
    }

    fn attach_region(&mut self, id: RegionId, mapping: &Arc<Mapping>, _receive: bool) {
        self.regions.insert(id, mapping.clone());
    }

    fn detach_region(&mut self, id: RegionId) {
        self.regions.remove(&id);
    }

    fn clock(&mut self) -> Clock {
        self.now
    }

    fn wake_handle(&self) -> WakeHandle {
        WakeHandle { event: None, ring_fd: -1 }
    }

    fn wake(&mut self, _peer: &WakeHandle) {}

    fn overflows(&self) -> u64 {
        0
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}
