//! Sockets of the bare programs: cubic, no delay, accepted before anything is served.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted: more than any scenario makes at once.
const BACKLOG: i32 = 4096;

/// Listens; what is accepted inherits the options.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_congestion(b"cubic")?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts this many connections, in the order in which they were made.
pub(super) fn accept(listener: &TcpListener, count: usize, blocking: bool) -> io::Result<Vec<OwnedFd>> {
    (0..count)
        .map(|_| {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(!blocking)?;
            Ok(stream.into())
        })
        .collect()
}

/// Lets a socket be found readable, and wake whoever waits for it, only once so many bytes are there (or its end
/// is): a sender of bulk is then read in large pieces, and not woken for at each segment.
pub(super) fn wake_at(socket: &OwnedFd, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).map_err(io::Error::other)?;
    let length = u32::try_from(size_of::<i32>()).expect("four");
    // SAFETY: the pointer and length are of a local that lives over the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const bytes).cast(),
            length,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What came of a read or a send that does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing there, or no room.
    Nothing,
    /// The peer has closed or reset the connection.
    Gone,
}

/// Receives once. The system call itself: `Read` would add nothing but a slice to check.
pub(super) fn receive(fd: RawFd, into: *mut u8, bytes: usize) -> io::Result<Moved> {
    // SAFETY: callers pass memory of their own of at least `bytes` bytes that nothing else refers to.
    moved(unsafe { libc::recv(fd, into.cast(), bytes, 0) })
}

/// Sends once.
pub(super) fn send(fd: RawFd, bytes: &[u8]) -> io::Result<Moved> {
    // SAFETY: pointer and length are of one slice, which lives over the call.
    moved(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) })
}

fn moved(result: isize) -> io::Result<Moved> {
    match usize::try_from(result) {
        Ok(0) => Ok(Moved::Gone),
        Ok(bytes) => Ok(Moved::Bytes(bytes)),
        Err(_) => classify(io::Error::last_os_error()),
    }
}

/// The result of an io_uring request, said the same way.
#[cfg(feature = "uring")]
pub(super) fn completed(result: i32) -> io::Result<Moved> {
    match usize::try_from(result) {
        Ok(0) => Ok(Moved::Gone),
        Ok(bytes) => Ok(Moved::Bytes(bytes)),
        Err(_) => classify(io::Error::from_raw_os_error(-result)),
    }
}

fn classify(error: io::Error) -> io::Result<Moved> {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Ok(Moved::Nothing),
        Some(libc::ECONNRESET | libc::EPIPE) => Ok(Moved::Gone),
        _ => Err(error),
    }
}

pub(super) fn descriptors<'a>(sockets: impl IntoIterator<Item = &'a OwnedFd>) -> Vec<RawFd> {
    sockets.into_iter().map(AsRawFd::as_raw_fd).collect()
}

/// An epoll descriptor, or the error of making one.
pub(super) fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller has just been given this descriptor by the kernel, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
