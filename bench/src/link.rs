//! A connection of the load: its socket, and TLS between the socket and the dialect where that is asked for.
//!
//! Dialects and lanes see plain bytes either way. During the handshake the socket blocks ([`Read`], [`Write`]); from
//! [`Link::run_free`] on it never does ([`Link::read_some`], [`Link::write_some`]). With TLS, what is taken is sealed:
//! it cannot be taken back, and what the socket does not take of it waits here ([`Link::is_stuck`]).

mod secured;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::RawFd;

use crate::socket::{connect, descriptor, read_some, run_free, write_some};
use crate::tls::LoadTls;

use secured::Secured;

/// See the module.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    secured: Option<Box<Secured>>,
}

impl Link {
    /// Connects connection number `number` of the run ([`connect`]), with TLS where it is given.
    ///
    /// # Errors
    /// The server does not listen, or the two do not agree.
    pub fn connect(address: SocketAddr, number: usize, tls: Option<&LoadTls>) -> io::Result<Link> {
        let stream = connect(address, number)?;
        match tls {
            Some(tls) => Link::secure(stream, tls),
            None => Ok(Link::plain(stream)),
        }
    }

    /// A socket that speaks as it is.
    #[must_use]
    pub fn plain(stream: TcpStream) -> Link {
        Link { stream, secured: None }
    }

    /// Shakes hands on a socket that blocks.
    ///
    /// # Errors
    /// The other side does not speak TLS, or is not who it should be.
    pub fn secure(stream: TcpStream, tls: &LoadTls) -> io::Result<Link> {
        let secured = Secured::shake_hands(&stream, tls)?;
        Ok(Link { stream, secured: Some(Box::new(secured)) })
    }

    /// From now on the socket never blocks.
    ///
    /// # Errors
    /// None that a socket of [`connect`] knows.
    pub fn run_free(&self) -> io::Result<()> {
        run_free(&self.stream)
    }

    /// The socket's descriptor.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        descriptor(&self.stream)
    }

    /// Reads what is there: 0 when nothing is, or no whole record.
    ///
    /// # Errors
    /// The server closed the connection, or it broke.
    #[inline]
    pub fn read_some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.secured {
            Some(secured) => secured.read_some(&self.stream, into),
            None => read_some(&self.stream, into),
        }
    }

    /// Takes what fits: 0 when nothing does.
    ///
    /// # Errors
    /// The connection broke.
    #[inline]
    pub fn write_some(&mut self, from: &[u8]) -> io::Result<usize> {
        match &mut self.secured {
            Some(secured) => secured.write_some(&self.stream, from),
            None => write_some(&self.stream, from),
        }
    }

    /// Whether something that was taken is not in the socket yet.
    #[must_use]
    #[inline]
    pub fn is_stuck(&self) -> bool {
        self.secured.as_ref().is_some_and(|secured| secured.is_stuck())
    }

    /// Whether bytes that came with the handshake's last answer wait to be read: the socket does not tell of them.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.secured.as_ref().is_some_and(|secured| secured.holds())
    }

    /// Writes what is stuck, as far as the socket takes it; says whether it took anything.
    ///
    /// # Errors
    /// The connection broke.
    #[inline]
    pub fn flush_some(&mut self) -> io::Result<bool> {
        match &mut self.secured {
            Some(secured) if secured.is_stuck() => secured.flush(&self.stream),
            _ => Ok(false),
        }
    }

    /// Sends nothing more.
    ///
    /// # Errors
    /// The connection broke.
    pub fn end(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

/// A connection ends by saying so: a server counts one that does not as cut off.
impl Drop for Link {
    fn drop(&mut self) {
        if let Some(secured) = &mut self.secured {
            secured.close(&self.stream);
        }
    }
}

/// While the socket blocks.
impl Read for Link {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.secured {
            Some(secured) => secured.read(&self.stream, into),
            None => self.stream.read(into),
        }
    }
}

/// While the socket blocks.
impl Write for Link {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match &mut self.secured {
            Some(secured) => secured.write(&self.stream, from),
            None => self.stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
