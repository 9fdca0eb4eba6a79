//! The tokio-uring driver: the tokio driver's shape with reads and writes by completion. Thin on purpose, so that
//! the runtime under it can be replaced.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_uring::buf::BoundedBuf as _;
use tokio_uring::net::TcpStream;

use crate::client::core::{
    ConsumerConfig, ConsumerCore, Core, Error, Frame, ProducerConfig, ProducerCore, ProducerEvent,
};
use crate::client::secured::{Lost, Receiver, Wire};
pub use crate::client::shared::{Consumer, Producer};
use crate::client::shared::{Shared, Step, events_to};
use crate::client::{now_s, seed};

/// Bytes of one read. tokio-uring reads into memory that it owns; what it read goes on to the receive memory by
/// a copy.
const READ_BYTES: usize = 128 * 1024;
/// How long the last words of TLS may take: they are few, and nobody waits for the peer to take them.
const GOODBYE: Duration = Duration::from_millis(200);

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
    let shared = Shared::new(ProducerCore::new(config, seed()?)?, events_to(on_event))?;
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
    let shared = Shared::new(ConsumerCore::new(config, seed()?)?, |_| ())?;
    tokio_uring::spawn(drive(Arc::clone(&shared)));
    Ok(Consumer::of(shared))
}

struct Connection {
    stream: Rc<TcpStream>,
    wire: Arc<Wire>,
    /// For records; the kernel's while they are written.
    block: Vec<u8>,
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
                let attempt = connect(shared.connector.host_and_port());
                let attempt = tokio::time::timeout(config.connect_timeout, attempt);
                match attempt.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
                    Ok(stream) => connection = Some(connected(&shared, stream, pinned_bytes_max)),
                    Err(error) => {
                        shared.disconnected(&format!("cannot connect to {}: {error}", config.server))
                    }
                }
            }
            Step::Hangup => hang_up(&shared, &mut connection, "closed by this side").await,
            Step::Write(frames) => {
                let Some(open) = &mut connection else { continue };
                if let Err(error) = write(open, frames).await {
                    open.wire.cut();
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
                    if let Some(open) = connection.take() {
                        say_goodbye(&open.stream, &open.wire, open.block).await;
                    }
                    shared.disconnected(&ended.unwrap_or_else(|error| error.to_string()));
                }
            }
        }
    }
    if let Some(open) = connection {
        close(open).await;
    }
    shared.ended();
}

async fn connect(to: (&str, u16)) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("the name has no address");
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(to).await?.collect();
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

/// A connection was made: starts to read from it.
fn connected<C: Core>(shared: &Arc<Shared<C>>, stream: TcpStream, pinned_bytes_max: usize) -> Connection {
    let stream = Rc::new(stream);
    let wire = shared.connector.open(now_s());
    let mut receiver = Receiver::new(pinned_bytes_max);
    receiver.begin(Arc::clone(&wire));
    shared.connected(Arc::clone(&wire));
    let reader = tokio_uring::spawn(read_frames(Arc::clone(shared), Rc::clone(&stream), receiver));
    Connection { stream, block: wire.block(), wire, reader }
}

async fn hang_up<C: Core>(shared: &Shared<C>, connection: &mut Option<Connection>, why: &str) {
    if let Some(open) = connection.take() {
        close(open).await;
    }
    shared.disconnected(why);
}

/// Ends the read in flight by closing the socket, and waits for it: its memory is the kernel's until then.
async fn close(open: Connection) {
    say_goodbye(&open.stream, &open.wire, open.block).await;
    let _ = open.stream.shutdown(std::net::Shutdown::Both); // closed is as good
    let _ = open.reader.await; // why it ended is known already
}

/// What TLS has left to say.
async fn say_goodbye(stream: &TcpStream, wire: &Wire, mut block: Vec<u8>) {
    let goodbye = wire.goodbye(&mut block);
    if goodbye > 0 {
        let written = stream.write_all(block.slice(..goodbye));
        let _ = tokio::time::timeout(GOODBYE, written).await; // the peer may have gone
    }
}

async fn read_frames<C: Core>(
    shared: Arc<Shared<C>>,
    stream: Rc<TcpStream>,
    mut receiver: Receiver,
) -> String {
    let mut frames = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let (read, returned) = stream.read(buffer).await;
        buffer = returned;
        let came = match read {
            Ok(0) => Err(receiver.ended()),
            Ok(read) => take(&mut receiver, &buffer[..read], &mut frames),
            Err(error) => Err(Lost::Ended(format!("cannot read: {error}"))),
        };
        if let Some(lost) = shared.received(&mut frames, came.err()) {
            return lost.to_string();
        }
    }
}

/// Copies what was read to where the receiver wants it.
fn take(receiver: &mut Receiver, mut bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), Lost> {
    while !bytes.is_empty() {
        let room = receiver.room();
        let part = room.len().min(bytes.len());
        room[..part].copy_from_slice(&bytes[..part]);
        receiver.filled(part, now_s(), frames)?;
        bytes = &bytes[part..];
    }
    Ok(())
}

/// Writes the frames, and what TLS has to say.
async fn write(open: &mut Connection, frames: Vec<Bytes>) -> std::io::Result<()> {
    if !open.wire.is_secured() {
        return write_all(&open.stream, frames).await;
    }
    let mut frames = VecDeque::from(frames);
    loop {
        let bytes = open.wire.seal(&mut frames, &mut open.block);
        if bytes == 0 {
            return Ok(());
        }
        let (written, block) = open.stream.write_all(std::mem::take(&mut open.block).slice(..bytes)).await;
        open.block = block.into_inner();
        written?;
    }
}

async fn write_all(stream: &TcpStream, frames: Vec<Bytes>) -> std::io::Result<()> {
    for frame in frames {
        stream.write_all(frame).await.0?;
    }
    Ok(())
}
