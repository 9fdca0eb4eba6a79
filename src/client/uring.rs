//! The tokio-uring driver: the tokio driver's shape with reads and writes by completion. Thin on purpose, so that
//! the runtime under it can be replaced.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_uring::net::TcpStream;

use crate::client::core::{
    ConsumerConfig, ConsumerCore, Core, Error, FrameReader, ProducerConfig, ProducerCore, ProducerEvent,
};
use crate::client::host_and_port;
use crate::client::seed;
pub use crate::client::shared::{Consumer, Producer};
use crate::client::shared::{Shared, Step, events_to};

/// Bytes of one read. tokio-uring reads into memory that it owns; what it read goes on to the receive memory by
/// a copy.
const READ_BYTES: usize = 128 * 1024;

/// Connects a producer; resolves when the topic's partitions are known.
///
/// # Errors
/// `BadConfig`; `GaveUp` when the server could not be reached within `retry_for`; `Refused`.
///
/// # Panics
/// Outside of `tokio_uring::start`.
pub async fn producer(config: ProducerConfig) -> Result<Producer, Error> {
    producer_with(config, |_| ()).await
}

/// The same, with a callback: see [`crate::client::tokio::producer_with`].
///
/// # Errors
/// As [`producer`].
///
/// # Panics
/// As [`producer`].
pub async fn producer_with(
    config: ProducerConfig,
    on_event: impl FnMut(ProducerEvent) + Send + 'static,
) -> Result<Producer, Error> {
    let window = config.window;
    let shared = Shared::new(ProducerCore::new(config, seed()?)?, events_to(on_event));
    tokio_uring::spawn(drive(Arc::clone(&shared)));
    Producer::ready(shared, window).await
}

/// Begins to connect and subscribe a consumer.
///
/// # Errors
/// `BadConfig`, `Environment`.
///
/// # Panics
/// As [`producer`].
pub fn consumer(config: ConsumerConfig) -> Result<Consumer, Error> {
    let shared = Shared::new(ConsumerCore::new(config, seed()?)?, |_| ());
    tokio_uring::spawn(drive(Arc::clone(&shared)));
    Ok(Consumer::of(shared))
}

struct Connection {
    stream: Rc<TcpStream>,
    /// Resolves with the reason when nothing more can be read.
    reader: JoinHandle<String>,
}

async fn drive<C: Core>(shared: Arc<Shared<C>>) {
    let (config, pinned_bytes_max) = shared.settings();
    let mut connection: Option<Connection> = None;
    loop {
        match shared.step() {
            Step::End => break,
            Step::Connect => {
                let attempt = tokio::time::timeout(config.connect_timeout, connect(host_and_port(&config)));
                match attempt.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
                    Ok(stream) => {
                        let stream = Rc::new(stream);
                        shared.connected();
                        let frames = FrameReader::new(pinned_bytes_max);
                        let reader =
                            tokio_uring::spawn(read_frames(Arc::clone(&shared), Rc::clone(&stream), frames));
                        connection = Some(Connection { stream, reader });
                    }
                    Err(error) => {
                        shared.disconnected(&format!("cannot connect to {}: {error}", config.server))
                    }
                }
            }
            Step::Hangup => hang_up(&shared, &mut connection, "closed by this side").await,
            Step::Write(frames) => {
                let Some(open) = &connection else { continue };
                if let Err(error) = write_all(&open.stream, frames).await {
                    hang_up(&shared, &mut connection, &format!("cannot write: {error}")).await;
                }
            }
            Step::Sleep(time) => {
                let sleep = async {
                    match time {
                        Some(time) => tokio::time::sleep(time).await,
                        None => std::future::pending().await,
                    }
                };
                let ended = async {
                    match &mut connection {
                        Some(open) => (&mut open.reader).await,
                        None => std::future::pending().await,
                    }
                };
                let ended = tokio::select! {
                    () = sleep => None,
                    () = shared.woken() => None,
                    ended = ended => Some(ended),
                };
                if let Some(ended) = ended {
                    connection = None;
                    shared.disconnected(&ended.unwrap_or_else(|error| error.to_string()));
                }
            }
        }
    }
    if let Some(open) = connection {
        let _ = open.stream.shutdown(std::net::Shutdown::Both); // ends the read in flight; closed is as good
        let _ = open.reader.await; // its memory is the kernel's until then
    }
    shared.ended();
}

async fn connect((host, port): (String, u16)) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("the name has no address");
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Ends the read in flight by closing the socket, and waits for it: its memory is the kernel's until then.
async fn hang_up<C: Core>(shared: &Shared<C>, connection: &mut Option<Connection>, why: &str) {
    if let Some(open) = connection.take() {
        let _ = open.stream.shutdown(std::net::Shutdown::Both); // closed is as good
        let _ = open.reader.await; // why it ended is known already
    }
    shared.disconnected(why);
}

async fn read_frames<C: Core>(
    shared: Arc<Shared<C>>,
    stream: Rc<TcpStream>,
    mut reader: FrameReader,
) -> String {
    let mut frames = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let (read, returned) = stream.read(buffer).await;
        buffer = returned;
        let mut bytes = match read {
            Ok(0) => return "the server closed the connection".to_owned(),
            Ok(read) => &buffer[..read],
            Err(error) => return format!("cannot read: {error}"),
        };
        while !bytes.is_empty() {
            let room = reader.room();
            let part = room.len().min(bytes.len());
            room[..part].copy_from_slice(&bytes[..part]);
            reader.filled(part);
            bytes = &bytes[part..];
            if let Err(error) = shared.received(&mut reader, &mut frames) {
                return error.to_string();
            }
        }
    }
}

async fn write_all(stream: &TcpStream, frames: Vec<Bytes>) -> std::io::Result<()> {
    for frame in frames {
        stream.write_all(frame).await.0?;
    }
    Ok(())
}
