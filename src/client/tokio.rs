//! The tokio driver: two tasks on the runtime that `connect` is called on.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

use crate::client::core::{
    ConsumerConfig, ConsumerCore, Core, Error, ProducerConfig, ProducerCore, ProducerEvent,
};
use crate::client::secured::{Lost, Receiver, Wire};
pub use crate::client::shared::{Consumer, Producer};
use crate::client::shared::{Shared, Step, events_to};
use crate::client::{now_s, seed};

/// Connects a producer; resolves when the topic's partitions are known.
///
/// # Errors
/// `BadConfig`; `GaveUp` when the server could not be reached within `retry_for`; `Refused`.
///
/// # Panics
/// Outside of a tokio runtime with I/O and time enabled.
pub async fn producer(config: ProducerConfig) -> Result<Producer, Error> {
    producer_with(config, |_| ()).await
}

/// The same, with a callback for acknowledgements, refusals and the connection's ups and downs. It must neither
/// block nor call this producer.
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
    tokio::spawn(drive(Arc::clone(&shared)));
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
    tokio::spawn(drive(Arc::clone(&shared)));
    Ok(Consumer::of(shared))
}

/// One connection: the half that writes, and the task that reads.
struct Connection {
    writer: OwnedWriteHalf,
    wire: Arc<Wire>,
    /// For records.
    block: Vec<u8>,
    reader: JoinHandle<(Receiver, String)>,
}

async fn drive<C: Core>(shared: Arc<Shared<C>>) {
    let (config, pinned_bytes_max) = shared.settings();
    let mut connection: Option<Connection> = None;
    let mut idle = Some(Receiver::new(pinned_bytes_max));
    loop {
        match shared.step() {
            Step::End => break,
            Step::Connect => {
                let attempt = TcpStream::connect(shared.connector.host_and_port());
                let attempt = tokio::time::timeout(config.connect_timeout, attempt);
                let stream = attempt.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                match stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
                    Ok(stream) => {
                        let receiver = idle.take().unwrap_or_else(|| Receiver::new(pinned_bytes_max));
                        connection = Some(connected(&shared, stream, receiver));
                    }
                    Err(error) => {
                        shared.disconnected(&format!("cannot connect to {}: {error}", config.server))
                    }
                }
            }
            Step::Hangup => hang_up(&shared, &mut connection, "closed by this side"),
            Step::Write(frames) => {
                let Some(open) = &mut connection else { continue };
                let written = tokio::select! {
                    written = write(&mut open.writer, &open.wire, frames, &mut open.block) => written.map_err(|error| format!("cannot write: {error}")),
                    ended = &mut open.reader => Err(ended.map_or_else(|error| error.to_string(), |(_, why)| why)),
                };
                if let Err(why) = written {
                    open.wire.cut();
                    hang_up(&shared, &mut connection, &why);
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
                    let (receiver, why) =
                        ended.map_or_else(|error| (None, error.to_string()), |(r, why)| (Some(r), why));
                    idle = receiver;
                    hang_up(&shared, &mut connection, &why);
                }
            }
        }
    }
    if let Some(open) = connection {
        close(open);
    }
    shared.ended();
}

/// A connection was made: starts to read from it.
fn connected<C: Core>(shared: &Arc<Shared<C>>, stream: TcpStream, mut receiver: Receiver) -> Connection {
    let (read, writer) = stream.into_split();
    let wire = shared.connector.open(now_s());
    receiver.begin(Arc::clone(&wire));
    shared.connected(Arc::clone(&wire));
    let reader = tokio::spawn(read_frames(Arc::clone(shared), read, receiver));
    Connection { writer, block: wire.block(), wire, reader }
}

/// Closes the connection. The receive memory is left to its task, if that has not ended before.
fn hang_up<C: Core>(shared: &Shared<C>, connection: &mut Option<Connection>, why: &str) {
    if let Some(open) = connection.take() {
        close(open);
    }
    shared.disconnected(why);
}

/// What TLS has left to say is said if there is room for it.
fn close(mut open: Connection) {
    open.reader.abort();
    let goodbye = open.wire.goodbye(&mut open.block);
    if goodbye > 0 {
        let _ = open.writer.try_write(&open.block[..goodbye]); // the peer may have gone
    }
}

async fn read_frames<C: Core>(
    shared: Arc<Shared<C>>,
    mut socket: OwnedReadHalf,
    mut receiver: Receiver,
) -> (Receiver, String) {
    let mut frames = Vec::new();
    loop {
        let came = match socket.read(receiver.room()).await {
            Ok(0) => Err(receiver.ended()),
            Ok(bytes) => receiver.filled(bytes, now_s(), &mut frames),
            Err(error) => Err(Lost::Ended(format!("cannot read: {error}"))),
        };
        if let Some(lost) = shared.received(&mut frames, came.err()) {
            return (receiver, lost.to_string());
        }
    }
}

/// Writes the frames, and what TLS has to say.
async fn write(
    socket: &mut OwnedWriteHalf,
    wire: &Wire,
    frames: Vec<Bytes>,
    block: &mut [u8],
) -> io::Result<()> {
    let mut frames = VecDeque::from(frames);
    if !wire.is_secured() {
        return write_all(socket, frames).await;
    }
    loop {
        match wire.seal(&mut frames, block) {
            0 => return Ok(()),
            bytes => socket.write_all(&block[..bytes]).await?,
        }
    }
}

async fn write_all(socket: &mut OwnedWriteHalf, mut frames: VecDeque<Bytes>) -> io::Result<()> {
    while !frames.is_empty() {
        let slices: Vec<io::IoSlice<'_>> =
            frames.iter().take(64).map(|frame| io::IoSlice::new(frame)).collect();
        let mut written = socket.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let front = frames.front_mut().expect("no more is written than there was");
            let part = front.len().min(written);
            front.advance(part);
            written -= part;
            if front.is_empty() {
                frames.pop_front();
            }
        }
    }
    Ok(())
}
