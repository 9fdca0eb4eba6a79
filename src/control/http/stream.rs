//! The few things a connection needs of a socket, over io_uring or readiness.

use std::future::Future;
use std::io;

/// Bytes asked of the kernel at once.
pub(super) const READ_BYTES: usize = 4096;

/// A byte stream.
pub trait Stream {
    /// What has arrived, at least a byte; nothing at the end of the stream.
    ///
    /// # Errors
    /// What the kernel said.
    fn read(&mut self) -> impl Future<Output = io::Result<Vec<u8>>>;

    /// Writes all.
    ///
    /// # Errors
    /// What the kernel said.
    fn write(&mut self, bytes: Vec<u8>) -> impl Future<Output = io::Result<()>>;

    /// Ends both directions, so that an operation that was given up completes and the descriptor is freed.
    fn shutdown(&self);
}

/// Where streams come from.
pub trait Listener {
    /// What it accepts.
    type Stream: Stream + 'static;

    /// The next connection.
    ///
    /// # Errors
    /// What the kernel said; the listener goes on.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>>;
}

impl Stream for tokio::net::TcpStream {
    async fn read(&mut self) -> io::Result<Vec<u8>> {
        use tokio::io::AsyncReadExt as _;
        let mut bytes = Vec::with_capacity(READ_BYTES);
        self.read_buf(&mut bytes).await?;
        Ok(bytes)
    }

    async fn write(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        tokio::io::AsyncWriteExt::write_all(self, &bytes).await
    }

    fn shutdown(&self) {
        // Dropping it closes it: no operation outlives its future here.
    }
}

impl Listener for tokio::net::TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        let (stream, _peer) = tokio::net::TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
