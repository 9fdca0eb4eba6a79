//! What this kernel's io_uring does, found out by doing it.
//!
//! The list of operations and the feature bits say little: multishot receive, incremental buffers, or when a
//! descriptor taken out of the ring's table is let go of, show only in use. So each is tried once in a process,
//! on small rings and socket pairs, with the bytes looked at.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};

use io_uring::{Probe, cqueue, opcode, squeue, types};
use serde::Serialize;

use crate::buf::{Mapping, Pages};
use crate::ids::BufId;

use super::buffer_ring::{BUFFER_GROUP, BufferRing};
use super::poll_bits;
use super::ring::{Ring, RingShape, patiently};

/// What works, each tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Features {
    /// Waiting takes a time-out (5.11).
    pub ext_arg: bool,
    /// One poll reports many times (5.13).
    pub multishot_poll: bool,
    /// One accept takes many connections (5.19).
    pub multishot_accept: bool,
    /// Buffers are provided in a ring (5.19).
    pub buffer_ring: bool,
    /// One receive fills many provided buffers (6.0).
    pub multishot_receive: bool,
    /// Provided buffers are consumed piece by piece (6.12).
    pub incremental_buffers: bool,
    /// One thread submits (6.0).
    pub single_issuer: bool,
    /// Completions are worked on when this thread asks for them (6.1).
    pub defer_taskrun: bool,
    /// The ring needs no index array (6.6).
    pub no_sqarray: bool,
    /// Sockets by index, and let go of when taken out (6.13; before, closed ones linger).
    pub direct_descriptors: bool,
    /// Buffers are registered one by one (5.13).
    pub buffer_updates: bool,
    /// And `READ_FIXED` reads a socket without waiting for it (6.4).
    pub registered_buffers: bool,
    /// It needs `RWF_NOWAIT` for that; without, the socket being non-blocking is enough.
    pub nowait_flag: bool,
    /// A ring wakes another by a message (5.18).
    pub ring_messages: bool,
    /// Successful requests may complete silently (5.17).
    pub skip_success: bool,
    /// Zero-copy sends exist (6.0). Not used: on loopback they always copy.
    pub send_zc: bool,
}

impl Features {
    /// What tier 2 needs and this kernel lacks.
    #[must_use]
    pub fn missing_for_tier_2(&self) -> Vec<&'static str> {
        [
            (self.buffer_ring, "provided-buffer rings"),
            (self.multishot_receive, "multishot receive"),
            (self.multishot_accept, "multishot accept"),
            (self.multishot_poll, "multishot poll"),
            (self.single_issuer, "SINGLE_ISSUER"),
            (self.ext_arg, "timed waits"),
        ]
        .into_iter()
        .filter_map(|(there, name)| (!there).then_some(name))
        .collect()
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, limit: Features) -> Features {
        Features {
            ext_arg: self.ext_arg && limit.ext_arg,
            multishot_poll: self.multishot_poll && limit.multishot_poll,
            multishot_accept: self.multishot_accept && limit.multishot_accept,
            buffer_ring: self.buffer_ring && limit.buffer_ring,
            multishot_receive: self.multishot_receive && limit.multishot_receive,
            incremental_buffers: self.incremental_buffers && limit.incremental_buffers,
            single_issuer: self.single_issuer && limit.single_issuer,
            defer_taskrun: self.defer_taskrun && limit.defer_taskrun,
            no_sqarray: self.no_sqarray && limit.no_sqarray,
            direct_descriptors: self.direct_descriptors && limit.direct_descriptors,
            buffer_updates: self.buffer_updates && limit.buffer_updates,
            registered_buffers: self.registered_buffers && limit.registered_buffers,
            nowait_flag: self.nowait_flag,
            ring_messages: self.ring_messages && limit.ring_messages,
            skip_success: self.skip_success && limit.skip_success,
            send_zc: self.send_zc && limit.send_zc,
        }
    }

    /// What tier 1 uses of them.
    #[must_use]
    pub fn without_tier_2(self) -> Features {
        Features {
            multishot_accept: false,
            buffer_ring: false,
            multishot_receive: false,
            incremental_buffers: false,
            single_issuer: false,
            defer_taskrun: false,
            no_sqarray: false,
            direct_descriptors: false,
            ring_messages: false,
            ..self
        }
    }
}

/// What this kernel does; tried once in a process.
///
/// # Errors
/// When there is no ring to be had at all.
pub(super) fn detect() -> io::Result<Features> {
    static FOUND: OnceLock<Features> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(*found);
    }
    let found = try_all()?;
    Ok(*FOUND.get_or_init(|| found))
}

/// Tries everything. See [`detect`].
pub(super) fn try_all() -> io::Result<Features> {
    let mut modern = Scratch::new(true)?;
    modern.must_work()?;
    let flags = modern.ring.flags();
    let parameters = modern.ring.parameters();
    let mut found = Features {
        ext_arg: parameters.is_feature_ext_arg(),
        skip_success: parameters.is_feature_skip_cqe_on_success(),
        single_issuer: flags.single_issuer,
        defer_taskrun: flags.defer_taskrun,
        no_sqarray: flags.no_sqarray,
        send_zc: operations(&modern.ring)?.is_supported(opcode::SendZc::CODE),
        ..Features::default()
    };
    drop(modern);
    // A trial that cannot be carried out has not succeeded; each has rings and sockets of its own.
    found.multishot_poll = tried(try_multishot_poll);
    found.multishot_accept = tried(try_multishot_accept);
    found.buffer_ring = tried(try_buffer_ring);
    found.multishot_receive = found.buffer_ring && tried(|| try_multishot_receive(false));
    found.incremental_buffers = found.multishot_receive && tried(|| try_multishot_receive(true));
    found.direct_descriptors = found.multishot_poll && tried(try_direct_descriptors);
    found.buffer_updates = tried(|| registered_page().map(|_| true));
    found.nowait_flag = tried(|| try_registered_buffers(true));
    found.registered_buffers = found.nowait_flag || tried(|| try_registered_buffers(false));
    found.ring_messages = tried(try_ring_messages);
    Ok(found)
}

/// Whether a trial succeeds.
fn tried(trial: impl FnMut() -> io::Result<bool>) -> bool {
    patiently(trial).unwrap_or(false)
}

/// The operations a ring lists.
pub(super) fn operations(ring: &Ring) -> io::Result<Probe> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    Ok(probe)
}

/// A table of registered buffers, all empty.
pub(super) fn register_empty_buffers(ring: &Ring, buffers: u32) -> io::Result<()> {
    if ring.submitter().register_buffers_sparse(buffers).is_ok() {
        return Ok(());
    }
    // Before 5.19 a sparse table is one of empty buffers.
    let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let table = vec![none; buffers as usize];
    // SAFETY: empty buffers name no memory.
    unsafe { ring.submitter().register_buffers(&table) }
}

/// A small ring to try things on.
struct Scratch {
    ring: Ring,
    /// Dropped after the ring.
    buffers: Option<BufferRing>,
}

/// Rounds of a few milliseconds a trial waits for a completion.
const ROUNDS_MAX: u32 = 40;

impl Scratch {
    fn new(modern: bool) -> io::Result<Scratch> {
        let shape = RingShape { sq_entries: 8, cq_entries: 32, modern };
        Ok(Scratch { ring: Ring::new(shape)?, buffers: None })
    }

    /// A ring that can be made and not entered (a filter may forbid one call and not the other) is no ring.
    fn must_work(&mut self) -> io::Result<()> {
        self.submit(opcode::Nop::new().build(), 1)?;
        match self.expect(1, 0)? {
            Some(_) => Ok(()),
            None => Err(io::Error::other("a request of nothing does not complete")),
        }
    }

    fn submit(&mut self, entry: squeue::Entry, user_data: u64) -> io::Result<()> {
        if !self.ring.push(&entry.user_data(user_data)) {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        self.ring.enter(None).map(drop)
    }

    /// The next completion; `None` when none comes.
    fn next(&mut self) -> io::Result<Option<cqueue::Entry>> {
        for _ in 0..ROUNDS_MAX {
            if let Some(entry) = self.ring.completion().next() {
                return Ok(Some(entry));
            }
            self.ring.enter(None)?;
            if !self.ring.completion().is_empty() {
                continue;
            }
            let mut ready = libc::pollfd { fd: self.ring.raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid `pollfd`, for the length of the call.
            unsafe { libc::poll(&raw mut ready, 1, 5) };
        }
        Ok(None)
    }

    /// Whether the next completion is of this request with this result; its flags.
    fn expect(&mut self, user_data: u64, result: i32) -> io::Result<Option<u32>> {
        let entry = self.next()?;
        Ok(entry.filter(|e| e.user_data() == user_data && e.result() == result).map(|e| e.flags()))
    }
}

fn pair() -> io::Result<(UnixStream, UnixStream)> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    Ok((near, far))
}

fn send(mut to: &UnixStream, bytes: &[u8]) -> io::Result<()> {
    io::Write::write_all(&mut to, bytes)
}

fn try_multishot_poll() -> io::Result<bool> {
    let mut scratch = Scratch::new(false)?;
    let (near, far) = pair()?;
    let fd = types::Fd(near.as_raw_fd());
    scratch.submit(opcode::PollAdd::new(fd, poll_bits(libc::POLLIN)).multi(true).build(), 1)?;
    for _ in 0..2 {
        send(&far, b"x")?;
        match scratch.next()? {
            Some(entry) if entry.result() > 0 && cqueue::more(entry.flags()) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn try_multishot_accept() -> io::Result<bool> {
    let mut scratch = Scratch::new(true)?;
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let fd = types::Fd(listener.as_raw_fd());
    scratch.submit(opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build(), 1)?;
    for _ in 0..2 {
        let _client = std::net::TcpStream::connect(address)?;
        match scratch.next()? {
            Some(entry) if entry.result() >= 0 => {
                close(entry.result());
                if !cqueue::more(entry.flags()) {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn close(fd: i32) {
    use std::os::fd::FromRawFd;
    // SAFETY: the kernel has just handed this descriptor out, to nobody else.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

/// Bytes of a trial's buffers, and how many they are.
const TRIAL_BYTES: u32 = 16 * 1024;
const TRIAL_BUFFERS: u16 = 4;

fn trial_buffers(scratch: &mut Scratch, incremental: bool) -> io::Result<Arc<Mapping>> {
    let memory = Arc::new(Mapping::plain(TRIAL_BYTES as usize, Pages::Small).map_err(io::Error::other)?);
    let ring =
        BufferRing::register(&scratch.ring, Arc::clone(&memory), TRIAL_BYTES, TRIAL_BUFFERS, incremental)?;
    scratch.buffers = Some(ring);
    Ok(memory)
}

fn try_buffer_ring() -> io::Result<bool> {
    let mut scratch = Scratch::new(true)?;
    let memory = trial_buffers(&mut scratch, false)?;
    let (near, far) = pair()?;
    send(&far, b"provided")?;
    let receive = opcode::Recv::new(types::Fd(near.as_raw_fd()), std::ptr::null_mut(), 64)
        .buf_group(BUFFER_GROUP)
        .build()
        .flags(squeue::Flags::BUFFER_SELECT);
    scratch.submit(receive, 1)?;
    let Some(flags) = scratch.expect(1, 8)? else { return Ok(false) };
    Ok(cqueue::buffer_select(flags) == Some(0) && holds(&memory, 0, b"provided"))
}

fn holds(memory: &Mapping, at: usize, bytes: &[u8]) -> bool {
    assert!(at + bytes.len() <= memory.bytes(), "trials look inside their memory");
    // SAFETY: the range is inside the mapping (asserted); the kernel has completed the receive that wrote to it
    // and is not writing there now.
    unsafe { std::slice::from_raw_parts(memory.base().add(at), bytes.len()) == bytes }
}

/// Two sockets in turn, one multishot receive each, over the same buffers; then the end of a stream.
fn try_multishot_receive(incremental: bool) -> io::Result<bool> {
    let mut scratch = Scratch::new(true)?;
    let memory = trial_buffers(&mut scratch, incremental)?;
    let pairs = [pair()?, pair()?];
    for (number, (near, _)) in (1u64..).zip(&pairs) {
        let fd = types::Fd(near.as_raw_fd());
        scratch.submit(opcode::RecvMulti::new(fd, BUFFER_GROUP).build(), number)?;
    }
    let rest = vec![b'z'; (TRIAL_BYTES / u32::from(TRIAL_BUFFERS)) as usize - 100 - 50];
    let pieces: &[(usize, Vec<u8>, u16, bool)] = &if incremental {
        vec![(0, vec![b'a'; 100], 0, true), (1, vec![b'b'; 50], 0, true), (0, rest, 0, false)]
    } else {
        // After the last of these there is no buffer left.
        let piece = |socket, letter, bid| (socket, vec![letter; 10], bid, false);
        vec![piece(0, b'a', 0), piece(1, b'b', 1), piece(0, b'c', 2), piece(0, b'd', 3)]
    };
    for (socket, bytes, bid, kept) in pieces {
        send(&pairs[*socket].1, bytes)?;
        let result = i32::try_from(bytes.len()).unwrap_or(0);
        let Some(flags) = scratch.expect(*socket as u64 + 1, result)? else { return Ok(false) };
        let kept_on = cqueue::buffer_more(flags);
        let filled =
            scratch.buffers.as_mut().and_then(|b| b.fill(BufId(*bid), result.cast_unsigned(), kept_on));
        let as_expected = cqueue::more(flags)
            && cqueue::buffer_select(flags) == Some(*bid)
            && kept_on == *kept
            && filled.is_some_and(|f| holds(&memory, usize::try_from(f.at).unwrap_or(0), bytes));
        if !as_expected {
            return Ok(false);
        }
    }
    ends_as_expected(&mut scratch, &pairs, incremental)
}

fn ends_as_expected(
    scratch: &mut Scratch,
    pairs: &[(UnixStream, UnixStream); 2],
    incremental: bool,
) -> io::Result<bool> {
    if incremental {
        // The next byte starts the second buffer.
        send(&pairs[1].1, b"n")?;
        let Some(flags) = scratch.expect(2, 1)? else { return Ok(false) };
        if cqueue::buffer_select(flags) != Some(1) || !cqueue::buffer_more(flags) {
            return Ok(false);
        }
    } else {
        // Said at once by some kernels, when there is something to receive by others.
        send(&pairs[0].1, b"n")?;
        let Some(flags) = scratch.expect(1, -libc::ENOBUFS)? else { return Ok(false) };
        if cqueue::more(flags) {
            return Ok(false);
        }
        // The end of a stream is not looked for without a buffer at hand.
        if let Some(buffers) = &mut scratch.buffers {
            buffers.give(BufId(0));
            buffers.publish();
        }
    }
    pairs[1].1.shutdown(std::net::Shutdown::Write)?;
    Ok(scratch.expect(2, 0)?.is_some_and(|flags| !cqueue::more(flags)))
}

/// A socket taken out of the ring's table must be let go of although another one's request goes on: kernels
/// before 6.13 free such entries in order, so one idle connection would keep every later one half-closed.
fn try_direct_descriptors() -> io::Result<bool> {
    let mut scratch = Scratch::new(true)?;
    scratch.ring.submitter().register_files_sparse(4)?;
    let (idle, _idle_far) = pair()?;
    let (near, far) = pair()?;
    scratch.ring.submitter().register_files_update(0, &[idle.as_raw_fd()])?;
    scratch.ring.submitter().register_files_update(1, &[near.as_raw_fd()])?;
    scratch.submit(opcode::PollAdd::new(types::Fixed(0), poll_bits(libc::POLLIN)).build(), 1)?;
    let mut byte = [0u8; 1];
    send(&far, b"y")?;
    let receive = opcode::Recv::new(types::Fixed(1), byte.as_mut_ptr(), 1).flags(libc::MSG_DONTWAIT).build();
    scratch.submit(receive, 2)?;
    if scratch.expect(2, 1)?.is_none() || byte != *b"y" {
        return Ok(false);
    }
    scratch.ring.submitter().register_files_update(1, &[-1])?;
    drop(near);
    let mut ended = libc::pollfd { fd: far.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    for _ in 0..4 {
        scratch.ring.enter(None)?;
        // SAFETY: one valid `pollfd`, for the length of the call.
        if unsafe { libc::poll(&raw mut ended, 1, 5) } > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A read of a socket that has nothing must say so at once. Some kernels wait for a non-blocking socket too,
/// unless the request says not to; others do not know that flag for sockets.
/// A ring with a table of four buffers, the third of which is registered.
fn registered_page() -> io::Result<(Scratch, Mapping)> {
    let memory = Mapping::plain(4096, Pages::Small).map_err(io::Error::other)?;
    let scratch = Scratch::new(false)?;
    register_empty_buffers(&scratch.ring, 4)?;
    let iovec = libc::iovec { iov_base: memory.base().cast(), iov_len: memory.bytes() };
    // SAFETY: the kernel holds on to the page by itself, in whatever order these two go; only the caller has anything read
    // into it.
    unsafe { scratch.ring.submitter().register_buffers_update(2, &[iovec], None)? };
    Ok((scratch, memory))
}

fn try_registered_buffers(nowait_flag: bool) -> io::Result<bool> {
    let flags = if nowait_flag { libc::RWF_NOWAIT } else { 0 };
    let (mut scratch, memory) = registered_page()?;
    let (near, far) = pair()?;
    let fd = types::Fd(near.as_raw_fd());
    let read = || opcode::ReadFixed::new(fd, memory.base(), 64, 2).rw_flags(flags).build();
    scratch.submit(read(), 1)?;
    if scratch.expect(1, -libc::EAGAIN)?.is_none() {
        return Ok(false);
    }
    send(&far, b"registered")?;
    scratch.submit(read(), 2)?;
    Ok(scratch.expect(2, 10)?.is_some() && holds(&memory, 0, b"registered"))
}

fn try_ring_messages() -> io::Result<bool> {
    let mut from = Scratch::new(true)?;
    let mut to = Scratch::new(true)?;
    let message = opcode::MsgRingData::new(types::Fd(to.ring.raw_fd()), 7, 42, None).build();
    from.submit(message, 1)?;
    Ok(from.expect(1, 0)?.is_some() && to.expect(42, 7)?.is_some())
}
