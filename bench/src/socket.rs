//! Sockets of the load: non-blocking, cubic, no delay.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::host::CONGESTION_CONTROL;

/// Connections from one source address before the next one is used: well below the ports that there are.
const PER_SOURCE_ADDRESS: usize = 4_000;
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects connection number `number` of the run, with cubic whatever the machine's default is. To a server on
/// IPv4 loopback, every few thousand connections come from another address of 127.0.0.0/8, as one has not
/// enough ports for all. The socket blocks until [`run_free`].
///
/// # Errors
/// The server does not listen, or the kernel does not have cubic.
pub fn connect(address: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_congestion(CONGESTION_CONTROL.as_bytes()).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("{CONGESTION_CONTROL} on a socket ({error}): modprobe tcp_cubic"),
        )
    })?;
    socket.set_tcp_nodelay(true)?;
    if let IpAddr::V4(ip) = address.ip()
        && ip.is_loopback()
        && let Ok(block @ 1..) = u8::try_from(number / PER_SOURCE_ADDRESS)
    {
        let source = SocketAddr::from((Ipv4Addr::new(127, 0, block, 1), 0));
        socket.set_reuse_address(true)?;
        socket.bind(&source.into())?;
    }
    socket.connect(&address.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The handshake is over: from now on the socket never blocks.
///
/// # Errors
/// None that a socket of [`connect`] knows.
pub fn run_free(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)
}

/// Reads what is there: 0 when nothing is.
///
/// # Errors
/// The server closed the connection, or it broke.
#[inline]
pub fn read_some(mut stream: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    match stream.read(into) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it")),
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

/// Writes what fits: 0 when nothing does.
///
/// # Errors
/// The connection broke.
#[inline]
pub fn write_some(mut stream: &TcpStream, from: &[u8]) -> io::Result<usize> {
    match stream.write(from) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

/// Waits until one of the sockets is ready for what it waits for (`true`: to be written to as well), at most
/// this long.
///
/// # Errors
/// None but for want of memory.
pub fn wait(sockets: &[(RawFd, bool)], timeout: Duration) -> io::Result<()> {
    let mut polls: Vec<libc::pollfd> = sockets
        .iter()
        .map(|&(fd, write)| libc::pollfd {
            fd,
            events: libc::POLLIN | if write { libc::POLLOUT } else { 0 },
            revents: 0,
        })
        .collect();
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    let count = polls.len() as libc::nfds_t;
    // SAFETY: the pointer and length are of the vector above, which lives over the call, as the time does; no mask.
    let ready = unsafe { libc::ppoll(polls.as_mut_ptr(), count, &raw const timeout, std::ptr::null()) };
    let error = io::Error::last_os_error();
    if ready < 0 && error.kind() != io::ErrorKind::Interrupted { Err(error) } else { Ok(()) }
}

/// The socket's descriptor.
#[must_use]
pub fn descriptor(stream: &TcpStream) -> RawFd {
    stream.as_raw_fd()
}

/// A port of loopback that was free a moment ago.
///
/// # Errors
/// There is none.
pub fn free_address() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
