//! The tokio driver: two tasks on the runtime that `connect` is called on.

use std::io;
use std::sync::Arc;

use bytes::Buf as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

use crate::client::core::{
    ConsumerConfig, ConsumerCore, Core, Error, FrameReader, ProducerConfig, ProducerCore, ProducerEvent,
};
use crate::client::host_and_port;
use crate::client::seed;
pub use crate::client::shared::{Consumer, Producer};
use crate::client::shared::{Shared, Step, events_to};

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
    let shared = Shared::new(ProducerCore::new(config, seed()?)?, events_to(on_event));
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
    let shared = Shared::new(ConsumerCore::new(config, seed()?)?, |_| ());
    tokio::spawn(drive(Arc::clone(&shared)));
    Ok(Consumer::of(shared))
}

/// One connection: the half that writes, and the task that reads.
struct Connection {
    writer: OwnedWriteHalf,
    reader: JoinHandle<(FrameReader, String)>,
}

async fn drive<C: Core>(shared: Arc<Shared<C>>) {
    let (config, pinned_bytes_max) = shared.settings();
    let mut connection: Option<Connection> = None;
    let mut idle = Some(FrameReader::new(pinned_bytes_max));
    loop {
        match shared.step() {
            Step::End => break,
            Step::Connect => {
                let attempt =
                    tokio::time::timeout(config.connect_timeout, TcpStream::connect(host_and_port(&config)));
                let stream = attempt.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                match stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
                    Ok(stream) => {
                        let (read, writer) = stream.into_split();
                        let mut frames = idle.take().unwrap_or_else(|| FrameReader::new(pinned_bytes_max));
                        frames.reset();
                        shared.connected();
                        let reader = tokio::spawn(read_frames(Arc::clone(&shared), read, frames));
                        connection = Some(Connection { writer, reader });
                    }
                    Err(error) => {
                        shared.disconnected(&format!("cannot connect to {}: {error}", config.server))
                    }
                }
            }
            Step::Hangup => idle = hang_up(&shared, &mut connection, "closed by this side").await,
            Step::Write(frames) => {
                let Some(open) = &mut connection else { continue };
                let written = tokio::select! {
                    written = write_all(&mut open.writer, frames) => written.map_err(|error| format!("cannot write: {error}")),
                    ended = &mut open.reader => Err(ended.map_or_else(|error| error.to_string(), |(_, why)| why)),
                };
                if let Err(why) = written {
                    idle = hang_up(&shared, &mut connection, &why).await;
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
                    let (frames, why) =
                        ended.map_or_else(|error| (None, error.to_string()), |(f, why)| (Some(f), why));
                    idle = frames;
                    shared.disconnected(&why);
                }
            }
        }
    }
    if let Some(open) = connection {
        open.reader.abort();
    }
    shared.ended();
}

/// Closes the connection and takes the receive memory back, if its task has not panicked or ended before.
async fn hang_up<C: Core>(
    shared: &Shared<C>,
    connection: &mut Option<Connection>,
    why: &str,
) -> Option<FrameReader> {
    if let Some(open) = connection.take() {
        open.reader.abort();
        drop(open.writer);
    }
    shared.disconnected(why);
    None
}

async fn read_frames<C: Core>(
    shared: Arc<Shared<C>>,
    mut socket: OwnedReadHalf,
    mut reader: FrameReader,
) -> (FrameReader, String) {
    let mut frames = Vec::new();
    loop {
        let why = match socket.read(reader.room()).await {
            Ok(0) => "the server closed the connection".to_owned(),
            Ok(bytes) => {
                reader.filled(bytes);
                match shared.received(&mut reader, &mut frames) {
                    Ok(()) => continue,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => format!("cannot read: {error}"),
        };
        return (reader, why);
    }
}

async fn write_all(socket: &mut OwnedWriteHalf, frames: Vec<bytes::Bytes>) -> io::Result<()> {
    let mut frames = std::collections::VecDeque::from(frames);
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
