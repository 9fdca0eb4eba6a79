//! Streams over io_uring.

use std::io;

use super::stream::{Listener, READ_BYTES, Stream};

impl Stream for tokio_uring::net::TcpStream {
    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let (result, mut bytes) =
            tokio_uring::net::TcpStream::read(self, Vec::with_capacity(READ_BYTES)).await;
        bytes.truncate(result?);
        Ok(bytes)
    }

    async fn write(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.write_all(bytes).await.0
    }

    fn shutdown(&self) {
        // The peer may have gone before; there is nothing to do about it.
        let _ = tokio_uring::net::TcpStream::shutdown(self, std::net::Shutdown::Both);
    }
}

impl Listener for tokio_uring::net::TcpListener {
    type Stream = tokio_uring::net::TcpStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        let (stream, _peer) = tokio_uring::net::TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
