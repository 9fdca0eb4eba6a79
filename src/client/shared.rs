//! What the two asynchronous drivers share: the core behind a lock that is never held over an await, and the
//! handles that applications call. The drivers differ in how bytes reach the socket, and in nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::client::core::{
    ConsumerCore, ConsumerEvent, Core, Error, Frame, ProducerCore, ProducerEvent, Record, SendError, Sent,
    Ticket, TicketStatus, WindowPolicy, Wish,
};
use crate::client::now_s;
use crate::client::secured::{Connector, Lost, Wire};
use crate::proto::header::AckLevel;

/// Bytes handed to one round of writes.
const WRITE_BYTES_MAX: usize = 256 * 1024;

type Hook<C> = Box<dyn FnMut(&mut C) + Send>;

struct Inner<C> {
    core: C,
    hook: Hook<C>,
    wire: Option<Arc<Wire>>,
    /// The writing task sleeps until this time.
    parked_until_ns: Option<u64>,
    /// The driver's tasks have ended.
    ended: bool,
}

impl<C: Core> Inner<C> {
    fn may_send(&self) -> bool {
        self.wire.as_ref().is_none_or(|wire| wire.may_send())
    }

    fn owes(&self) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.owes())
    }
}

/// The core, shared by the driver's tasks and the application's.
pub(super) struct Shared<C> {
    inner: Mutex<Inner<C>>,
    /// For the task that writes.
    io: Notify,
    /// For the application: something was acknowledged, came, or ended.
    news: Notify,
    /// The application's handle is gone.
    abandoned: AtomicBool,
    epoch: Instant,
    /// For the task that connects.
    pub connector: Connector,
}

impl<C> std::fmt::Debug for Shared<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// What the writing task does next.
pub(super) enum Step {
    Connect,
    /// These are to be written, and what TLS has to say; they may be none.
    Write(Vec<Bytes>),
    /// Nothing until this long has passed, or [`Shared::woken`].
    Sleep(Option<Duration>),
    Hangup,
    End,
}

impl<C: Core> Shared<C> {
    pub fn new(core: C, hook: impl FnMut(&mut C) + Send + 'static) -> Result<Arc<Self>, Error> {
        let connector = Connector::new(core.connection(), now_s())?;
        let inner = Inner { core, hook: Box::new(hook), wire: None, parked_until_ns: None, ended: false };
        Ok(Arc::new(Shared {
            connector,
            inner: Mutex::new(inner),
            io: Notify::new(),
            news: Notify::new(),
            abandoned: AtomicBool::new(false),
            epoch: Instant::now(),
        }))
    }

    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<C>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, inner: &mut Inner<C>) {
        let Inner { core, hook, .. } = inner;
        hook(core);
        self.news.notify_waiters();
    }

    /// The connection's settings and the bound on pinned memory.
    pub fn settings(&self) -> (crate::client::ConnectionConfig, usize) {
        let inner = self.lock();
        (inner.core.connection().clone(), inner.core.pinned_bytes_max())
    }

    pub fn step(&self) -> Step {
        let mut inner = self.lock();
        if self.abandoned.load(Ordering::Acquire) {
            inner.core.close();
        }
        let now_ns = self.now_ns();
        inner.parked_until_ns = None;
        inner.core.expire(now_ns);
        match inner.core.wish() {
            Wish::End => {
                self.tell(&mut inner);
                return Step::End;
            }
            Wish::Connect => return Step::Connect,
            Wish::Hangup => return Step::Hangup,
            Wish::Wait => {}
            Wish::Run => {
                let mut out = Vec::new();
                if inner.may_send() {
                    inner.core.transmit(WRITE_BYTES_MAX, now_ns, &mut out);
                }
                if !out.is_empty() || inner.owes() {
                    return Step::Write(out);
                }
            }
        }
        let Inner { core, hook, .. } = &mut *inner;
        hook(core);
        let deadline = inner.core.next_deadline();
        inner.parked_until_ns = Some(deadline.unwrap_or(u64::MAX));
        Step::Sleep(deadline.map(|deadline| Duration::from_nanos(deadline.saturating_sub(now_ns))))
    }

    /// Resolves when the application did something, or the reading task has something for the writing one.
    pub async fn woken(&self) {
        self.io.notified().await;
    }

    pub fn connected(&self, wire: Arc<Wire>) {
        let now_ns = self.now_ns();
        let mut inner = self.lock();
        inner.wire = Some(wire);
        inner.core.connected(now_ns);
    }

    pub fn disconnected(&self, why: &str) {
        let now_ns = self.now_ns();
        let mut inner = self.lock();
        inner.wire = None;
        inner.core.disconnected(now_ns, why);
        self.tell(&mut inner);
    }

    /// Gives the core the frames that are whole, and what is wrong with what came behind them, which comes back.
    pub fn received(&self, frames: &mut Vec<Frame>, lost: Option<Lost>) -> Option<Lost> {
        let now_ns = self.now_ns();
        let mut inner = self.lock();
        for frame in frames.drain(..) {
            inner.core.frame(frame, now_ns);
        }
        if let Some(Lost::Garbled(error)) = &lost {
            inner.core.garbled(error.clone(), now_ns);
        }
        if lost.is_none() {
            self.tell(&mut inner);
            self.wake_io(&mut inner);
        }
        lost
    }

    /// Wakes the writing task if it sleeps and has something to do now, or sooner than it thinks. (Waking it for
    /// nothing would have it wake the application for nothing, and so on.)
    fn wake_io(&self, inner: &mut Inner<C>) {
        let Some(until_ns) = inner.parked_until_ns else { return };
        let sooner = inner.core.next_deadline().is_some_and(|deadline| deadline < until_ns);
        let settled = matches!(inner.core.wish(), Wish::Run | Wish::Wait);
        let output = inner.owes() || (inner.may_send() && inner.core.has_output(self.now_ns()));
        if sooner || !settled || output {
            inner.parked_until_ns = None;
            self.io.notify_one();
        }
    }

    /// The driver's last word.
    pub fn ended(&self) {
        self.lock().ended = true;
        self.news.notify_waiters();
    }

    async fn wait_ended(&self) {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.lock().ended {
                return;
            }
            news.await;
        }
    }

    /// Asks until it answers, between what the driver brings.
    async fn wait<T>(&self, mut ask: impl FnMut(&mut C) -> Option<T>) -> Result<T, Error> {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            {
                let mut inner = self.lock();
                let answer = ask(&mut inner.core);
                self.wake_io(&mut inner);
                if let Some(answer) = answer {
                    return Ok(answer);
                }
                if inner.core.wish() == Wish::End {
                    return Err(inner.core.failure().cloned().unwrap_or(Error::Closed));
                }
            }
            news.await;
        }
    }

    fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.io.notify_one();
    }
}

/// Publishes records. Dropping it gives up what is not acknowledged: call [`Producer::flush`] first. Every
/// future may be dropped at any time; a record that was taken stays taken.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared<ProducerCore>>,
    window: WindowPolicy,
}

impl Producer {
    pub(super) async fn ready(
        shared: Arc<Shared<ProducerCore>>,
        window: WindowPolicy,
    ) -> Result<Producer, Error> {
        let producer = Producer { shared, window };
        producer.shared.wait(|core| core.partitions().map(|_| ())).await?;
        Ok(producer)
    }

    /// Takes a record; waits for room with the policy `Block`. The payload is copied into its batch.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, payload: &[u8], key: Option<&[u8]>) -> Result<Sent, SendError> {
        self.send_record(&Record { payload, key, ..Record::default() }).await
    }

    /// Takes a record with all it may have.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send_record(&self, record: &Record<'_>) -> Result<Sent, SendError> {
        let now_ns = self.shared.now_ns();
        let block = self.window == WindowPolicy::Block;
        let sent = self.shared.wait(|core| match core.send(record, now_ns) {
            Err(SendError::Full) if block => None,
            other => Some(other),
        });
        sent.await.unwrap_or_else(|error| Err(SendError::Ended(error)))
    }

    /// Takes a record and waits for its acknowledgement. Many at a time, or the linger is paid for each.
    ///
    /// # Errors
    /// [`SendError`]; `Ended(Refused)` when the server refused its batch for good.
    pub async fn publish(&self, record: &Record<'_>) -> Result<Sent, SendError> {
        let sent = self.send_record(record).await?;
        if let Sent::Taken(ticket) = sent {
            match self.acked(ticket).await.map_err(SendError::Ended)? {
                TicketStatus::Refused(code) => {
                    return Err(SendError::Ended(Error::Refused { code, detail: String::new() }));
                }
                TicketStatus::Acked | TicketStatus::Pending => {}
            }
        }
        Ok(sent)
    }

    /// Resolves when a record is acknowledged or refused.
    ///
    /// # Errors
    /// What ended the producer.
    pub async fn acked(&self, ticket: Ticket) -> Result<TicketStatus, Error> {
        let decided =
            |core: &mut ProducerCore| Some(core.status(ticket)).filter(|s| *s != TicketStatus::Pending);
        self.shared.wait(decided).await
    }

    /// Sends what is batched; resolves when every record taken so far is acknowledged.
    ///
    /// # Errors
    /// `Refused` when some record was refused for good, ever; what ended the producer.
    pub async fn flush(&self) -> Result<(), Error> {
        let mut target = None;
        let flushed = self.shared.wait(|core| {
            let target = *target.get_or_insert_with(|| {
                core.flush();
                core.records()
            });
            (core.resolved_prefix() >= target).then(|| core.first_refusal().cloned())
        });
        match flushed.await? {
            Some((code, detail)) => Err(Error::Refused { code, detail }),
            None => Ok(()),
        }
    }

    /// Flushes, ends, and resolves when the driver's tasks have ended. On tokio-uring this has to come before the
    /// end of `tokio_uring::start`, which waits for reads in flight.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(self) -> Result<(), Error> {
        let flushed = self.flush().await;
        self.shared.abandon();
        self.shared.wait_ended().await;
        flushed
    }

    /// How many of the first records, in the order they were given, are all acknowledged.
    #[must_use]
    pub fn acknowledged_prefix(&self) -> u64 {
        self.shared.lock().core.acknowledged_prefix()
    }

    /// What holds of every record acknowledged so far; `None` while there is none.
    #[must_use]
    pub fn acknowledged_level(&self) -> Option<AckLevel> {
        self.shared.lock().core.acknowledged_level()
    }

    /// The topic's partitions.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.shared.lock().core.partitions().unwrap_or(0)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

/// Passes a producer's events on.
pub(super) fn events_to(
    mut on_event: impl FnMut(ProducerEvent) + Send + 'static,
) -> impl FnMut(&mut ProducerCore) + Send + 'static {
    move |core| {
        while let Some(event) = core.poll_event() {
            on_event(event);
        }
    }
}

/// Consumes records.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared<ConsumerCore>>,
}

impl Consumer {
    pub(super) fn of(shared: Arc<Shared<ConsumerCore>>) -> Consumer {
        Consumer { shared }
    }

    /// The next event. Cancel-safe: an event is taken only when the future resolves.
    ///
    /// # Errors
    /// What ended the consumer, after the events that came before.
    pub async fn next(&self) -> Result<ConsumerEvent, Error> {
        self.shared.wait(ConsumerCore::poll_event).await
    }

    /// Ends, and resolves when the driver's tasks have ended: see [`Producer::close`].
    pub async fn close(self) {
        self.shared.abandon();
        self.shared.wait_ended().await;
    }

    /// Resolves when every partition is subscribed.
    ///
    /// # Errors
    /// What ended the consumer.
    pub async fn subscribed(&self) -> Result<(), Error> {
        self.shared.wait(|core| core.is_subscribed().then_some(())).await
    }

    /// Says that a partition's records below `offset` are dealt with. Does not wait.
    ///
    /// # Errors
    /// `BadConfig`: the consumer has no name, or no such partition.
    pub fn commit(&self, partition: u32, offset: u64) -> Result<(), Error> {
        let mut inner = self.shared.lock();
        let result = inner.core.commit(partition, offset);
        self.shared.wake_io(&mut inner);
        result
    }

    /// Resolves when the server has confirmed every commit.
    ///
    /// # Errors
    /// What ended the consumer.
    pub async fn commits_settled(&self) -> Result<(), Error> {
        self.shared.wait(|core| core.commits_settled().then_some(())).await
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}
