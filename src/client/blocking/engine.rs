//! The two threads and the lock between them and the application.

use std::collections::VecDeque;
use std::io::{IoSlice, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::client::core::ConnectionConfig;
use crate::client::core::{Core, Error, Frame, ProducerCore, Wish};
use crate::client::now_s;
use crate::client::secured::{Connector, Lost, Receiver, Wire};

/// Bytes handed to one round of writes.
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// Pieces of one vectored write.
const WRITE_PIECES_MAX: usize = 64;
/// A write that makes no progress for this long is a lost connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the application waits for the end of what is being written, for TLS to end in good order.
const GOODBYE: Duration = Duration::from_millis(200);

type Hook<C> = Box<dyn FnMut(&mut C) + Send>;

pub(super) struct Inner<C> {
    pub core: C,
    /// Called after whatever may have made events.
    hook: Hook<C>,
    /// Why the current connection is of no use any more.
    lost: Option<String>,
    socket: Option<Arc<TcpStream>>,
    wire: Option<Arc<Wire>>,
    /// The writing thread sleeps until this time.
    io_parked_until_ns: Option<u64>,
    waiting_for_news: usize,
    /// Senders wait until no more than so many bytes are buffered.
    waiting_for_room: usize,
    room_at: usize,
}

pub(super) struct Shared<C> {
    inner: Mutex<Inner<C>>,
    io: Condvar,
    news: Condvar,
    room: Condvar,
    epoch: Instant,
}

impl<C> std::fmt::Debug for Shared<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The lock, and the time when it was taken.
pub(super) struct Guard<'a, C> {
    pub inner: MutexGuard<'a, Inner<C>>,
    pub now_ns: u64,
}

/// Starts the thread that connects.
pub(super) fn start<C: Core>(
    core: C,
    hook: impl FnMut(&mut C) + Send + 'static,
) -> Result<(Arc<Shared<C>>, JoinHandle<()>), Error> {
    let connector = Connector::new(core.connection(), now_s())?;
    let shared = Arc::new(Shared {
        inner: Mutex::new(Inner {
            core,
            hook: Box::new(hook),
            lost: None,
            socket: None,
            wire: None,
            io_parked_until_ns: None,
            waiting_for_news: 0,
            waiting_for_room: 0,
            room_at: 0,
        }),
        io: Condvar::new(),
        news: Condvar::new(),
        room: Condvar::new(),
        epoch: Instant::now(),
    });
    let theirs = Arc::clone(&shared);
    let thread = std::thread::Builder::new()
        .name("uringest-io".to_owned())
        .spawn(move || run(&theirs, &connector))
        .map_err(|error| Error::Environment(format!("cannot start a thread: {error}")))?;
    Ok((shared, thread))
}

impl<C: Core> Inner<C> {
    fn has_output(&self, now_ns: u64) -> bool {
        match &self.wire {
            Some(wire) => wire.owes() || (wire.may_send() && self.core.has_output(now_ns)),
            None => self.core.has_output(now_ns),
        }
    }
}

impl<C: Core> Shared<C> {
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A panic of the application's callback ends the driver's threads, not the application's.
    pub fn lock(&self) -> Guard<'_, C> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Guard { inner, now_ns: self.now_ns() }
    }

    /// Wakes the writing thread if it sleeps and has something to do now, or sooner than it thinks.
    pub fn wake_io(&self, guard: &Guard<'_, C>) {
        let inner = &guard.inner;
        let Some(until_ns) = inner.io_parked_until_ns else { return };
        let sooner = inner.core.next_deadline().is_some_and(|deadline| deadline < until_ns);
        let settled = matches!(inner.core.wish(), Wish::Run | Wish::Wait) && inner.lost.is_none();
        if sooner || !settled || inner.has_output(guard.now_ns) {
            self.io.notify_one();
        }
    }

    /// Sleeps until the driver brings something.
    pub fn wait_for_news<'a>(&'a self, mut guard: Guard<'a, C>, timeout: Option<Duration>) -> Guard<'a, C> {
        guard.inner.waiting_for_news += 1;
        guard.inner = sleep(&self.news, guard.inner, timeout);
        guard.inner.waiting_for_news -= 1;
        guard.now_ns = self.now_ns();
        guard
    }

    /// Ends the core and its threads.
    pub fn end(&self) {
        let mut guard = self.lock();
        guard.inner.core.close();
        if guard.inner.wire.as_ref().is_some_and(|wire| wire.is_secured()) {
            // The writing thread closes the socket itself, behind its last record, unless that takes too long.
            self.io.notify_one();
            let deadline = Instant::now() + GOODBYE;
            let left = || deadline.saturating_duration_since(Instant::now());
            while guard.inner.socket.is_some() && !left().is_zero() {
                guard = self.wait_for_news(guard, Some(left()));
            }
        }
        if let Some(socket) = &guard.inner.socket {
            let _ = socket.shutdown(Shutdown::Both); // already closed is as good
        }
        self.io.notify_one();
    }

    fn tell(&self, inner: &mut Inner<C>) {
        let Inner { core, hook, .. } = inner;
        hook(core);
        if inner.waiting_for_news > 0 {
            self.news.notify_all();
        }
        if inner.waiting_for_room > 0
            && (inner.core.buffered_bytes() <= inner.room_at || inner.core.wish() == Wish::End)
        {
            self.room.notify_all();
        }
    }
}

impl Shared<ProducerCore> {
    /// Sleeps until no more than `room_at` bytes are buffered, or it is over.
    pub fn wait_for_room<'a>(
        &'a self,
        mut guard: Guard<'a, ProducerCore>,
        room_at: usize,
    ) -> Guard<'a, ProducerCore> {
        guard.inner.room_at = room_at;
        guard.inner.waiting_for_room += 1;
        while guard.inner.core.buffered_bytes() > room_at && guard.inner.core.wish() != Wish::End {
            guard.inner = sleep(&self.room, guard.inner, None);
        }
        guard.inner.waiting_for_room -= 1;
        guard.now_ns = self.now_ns();
        guard
    }
}

fn sleep<'a, T>(on: &Condvar, inner: MutexGuard<'a, T>, timeout: Option<Duration>) -> MutexGuard<'a, T> {
    match timeout {
        None => on.wait(inner).unwrap_or_else(PoisonError::into_inner),
        Some(timeout) => on.wait_timeout(inner, timeout).unwrap_or_else(PoisonError::into_inner).0,
    }
}

/// The thread that connects, writes and keeps the time.
fn run<C: Core>(shared: &Arc<Shared<C>>, connector: &Connector) {
    let config = shared.lock().inner.core.connection().clone();
    let mut connection = Connection::None(Receiver::new(shared.lock().inner.core.pinned_bytes_max()));
    let mut out = Vec::new();
    loop {
        let Guard { mut inner, now_ns } = shared.lock();
        if let Some(why) = inner.lost.take().filter(|_| inner.core.wish() != Wish::End) {
            inner.socket = None;
            drop(inner);
            connection = Connection::None(connection.end());
            hung_up(shared, &why);
            continue;
        }
        inner.core.expire(now_ns);
        match inner.core.wish() {
            Wish::End => {
                inner.socket = None;
                shared.tell(&mut inner);
                drop(inner);
                connection.end();
                return;
            }
            Wish::Hangup => inner.lost = Some("closed by this side".to_owned()),
            Wish::Connect => {
                drop(inner);
                match connect(&config, connector) {
                    Ok(socket) => connection = connected(shared, socket, connector, connection),
                    Err(why) => hung_up(shared, &why),
                }
            }
            Wish::Wait => park(shared, inner, now_ns),
            Wish::Run => {
                let owes = inner.wire.as_ref().is_some_and(|wire| wire.owes());
                if inner.wire.as_ref().is_some_and(|wire| wire.may_send()) {
                    inner.core.transmit(WRITE_BYTES_MAX, now_ns, &mut out);
                }
                if out.is_empty() && !owes {
                    park(shared, inner, now_ns);
                    continue;
                }
                drop(inner);
                let written = connection.write(&mut out);
                out.clear();
                if let Err(error) = written {
                    shared.lock().inner.lost.get_or_insert(format!("cannot write: {error}"));
                }
            }
        }
    }
}

fn hung_up<C: Core>(shared: &Shared<C>, why: &str) {
    let Guard { mut inner, now_ns } = shared.lock();
    inner.wire = None;
    inner.core.disconnected(now_ns, why);
    shared.tell(&mut inner);
}

/// Sleeps until there is something to do.
fn park<C: Core>(shared: &Shared<C>, mut inner: MutexGuard<'_, Inner<C>>, now_ns: u64) {
    shared.tell(&mut inner);
    let deadline_ns = inner.core.next_deadline().unwrap_or(u64::MAX);
    if deadline_ns <= now_ns || inner.has_output(now_ns) || inner.core.wish() == Wish::End {
        return;
    }
    inner.io_parked_until_ns = Some(deadline_ns);
    let timeout = (deadline_ns != u64::MAX).then(|| Duration::from_nanos(deadline_ns - now_ns));
    let mut inner = sleep(&shared.io, inner, timeout);
    inner.io_parked_until_ns = None;
}

fn connect(config: &ConnectionConfig, connector: &Connector) -> Result<TcpStream, String> {
    let server = &config.server;
    let cannot = |error: std::io::Error| format!("cannot connect to {server}: {error}");
    let mut last = format!("cannot connect to {server}: the name has no address");
    for address in connector.host_and_port().to_socket_addrs().map_err(cannot)? {
        match TcpStream::connect_timeout(&address, config.connect_timeout) {
            Ok(socket) => {
                socket.set_nodelay(true).map_err(cannot)?;
                socket.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(cannot)?;
                return Ok(socket);
            }
            Err(error) => last = cannot(error),
        }
    }
    Err(last)
}

/// A connection was made: starts to read from it.
fn connected<C: Core>(
    shared: &Arc<Shared<C>>,
    socket: TcpStream,
    connector: &Connector,
    before: Connection,
) -> Connection {
    let mut receiver = before.end();
    let wire = connector.open(now_s());
    receiver.begin(Arc::clone(&wire));
    let block = wire.block();
    let started = (|| {
        let socket = Arc::new(socket);
        let (for_reading, for_writing) = (Arc::clone(&socket), Arc::clone(&socket));
        let theirs = Arc::clone(shared);
        let Guard { mut inner, now_ns } = shared.lock();
        inner.core.connected(now_ns);
        inner.lost = None;
        inner.socket = Some(socket);
        inner.wire = Some(Arc::clone(&wire));
        let thread = std::thread::Builder::new()
            .name("uringest-read".to_owned())
            .spawn(move || read(&theirs, &for_reading, receiver))?;
        Ok::<_, std::io::Error>((for_writing, thread))
    })();
    match started {
        Ok((writer, thread)) => Connection::Open { writer, wire, block, thread },
        Err(error) => {
            hung_up(shared, &format!("cannot read from the connection: {error}"));
            Connection::None(Receiver::new(shared.lock().inner.core.pinned_bytes_max()))
        }
    }
}

/// What the writing thread has of a connection, and while there is none the receive memory for the next.
enum Connection {
    None(Receiver),
    Open { writer: Arc<TcpStream>, wire: Arc<Wire>, block: Vec<u8>, thread: JoinHandle<Receiver> },
}

impl Connection {
    /// Writes all of it, and what TLS has to say.
    fn write(&mut self, out: &mut Vec<Bytes>) -> std::io::Result<()> {
        let Connection::Open { writer, wire, block, .. } = self else {
            return Err(std::io::ErrorKind::NotConnected.into());
        };
        let written =
            if wire.is_secured() { write_sealed(writer, wire, block, out) } else { write_all(writer, out) };
        if written.is_err() {
            wire.cut();
        }
        written
    }

    /// Ends it and the reading thread, if there is one, and takes the receive memory back. What TLS has left to say
    /// is said if there is room for it.
    fn end(self) -> Receiver {
        match self {
            Connection::None(receiver) => receiver,
            Connection::Open { writer, wire, mut block, thread } => {
                let goodbye = wire.goodbye(&mut block);
                if goodbye > 0 && writer.set_nonblocking(true).is_ok() {
                    let _ = (&*writer).write(&block[..goodbye]); // the peer may have gone
                }
                let _ = writer.shutdown(Shutdown::Both); // closed already is as good
                thread.join().unwrap_or_else(|_| Receiver::new(0))
            }
        }
    }
}

/// The thread that reads one connection.
fn read<C: Core>(shared: &Shared<C>, mut socket: &TcpStream, mut receiver: Receiver) -> Receiver {
    let mut frames = Vec::new();
    let lost = loop {
        let came = match socket.read(receiver.room()) {
            Ok(0) => Err(receiver.ended()),
            Ok(bytes) => receiver.filled(bytes, now_s(), &mut frames),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(Lost::Ended(format!("cannot read: {error}"))),
        };
        if let Some(lost) = deliver(shared, &mut frames, came.err()) {
            break lost;
        }
    };
    shared.lock().inner.lost.get_or_insert(lost.to_string());
    shared.io.notify_one();
    receiver
}

/// Gives the core the frames that are whole, and what is wrong with what came behind them, which comes back. They
/// were verified before the lock is taken.
fn deliver<C: Core>(shared: &Shared<C>, frames: &mut Vec<Frame>, lost: Option<Lost>) -> Option<Lost> {
    let mut guard = shared.lock();
    for frame in frames.drain(..) {
        guard.inner.core.frame(frame, guard.now_ns);
    }
    if let Some(Lost::Garbled(error)) = &lost {
        guard.inner.core.garbled(error.clone(), guard.now_ns);
    }
    if lost.is_none() {
        shared.tell(&mut guard.inner);
        shared.wake_io(&guard);
    }
    lost
}

fn write_sealed(
    mut socket: &TcpStream,
    wire: &Wire,
    block: &mut [u8],
    out: &mut Vec<Bytes>,
) -> std::io::Result<()> {
    let mut frames = VecDeque::from(std::mem::take(out));
    loop {
        match wire.seal(&mut frames, block) {
            0 => break,
            bytes => socket.write_all(&block[..bytes])?,
        }
    }
    *out = frames.into(); // empty, and its memory is used again
    Ok(())
}

fn write_all(mut socket: &TcpStream, frames: &[Bytes]) -> std::io::Result<()> {
    for group in frames.chunks(WRITE_PIECES_MAX) {
        let mut slices: [IoSlice<'_>; WRITE_PIECES_MAX] = [IoSlice::new(&[]); WRITE_PIECES_MAX];
        for (slice, frame) in slices.iter_mut().zip(group) {
            *slice = IoSlice::new(frame);
        }
        let mut left = &mut slices[..group.len()];
        while !left.is_empty() {
            match socket.write_vectored(left) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(bytes) => IoSlice::advance_slices(&mut left, bytes),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
