//! The blocking driver: std sockets and two threads for each producer or consumer.
//!
//! One thread connects, writes and keeps the time; while connected a second one reads. Both hold the core's lock
//! only between system calls. The application's calls take the same lock, and wait on a condition for what the
//! threads bring. A thread that nobody waits for is never woken.

mod engine;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::core::{ConsumerConfig, ProducerConfig, WindowPolicy};
use crate::client::core::{ConsumerCore, ConsumerEvent};
use crate::client::core::{Core, Wish};
use crate::client::core::{Error, SendError};
use crate::client::core::{ProducerCore, ProducerEvent, Record, Sent, Ticket, TicketStatus};
use crate::client::seed;
use crate::proto::header::AckLevel;
use engine::{Guard, Shared};

/// Records between two looks at whether the writing thread has to be woken.
const RECORDS_PER_LOOK: u32 = 256;

/// Publishes records. Shared by reference between threads. Dropping it gives up what is not acknowledged: call
/// [`Producer::close`] or [`Producer::flush`] first.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared<ProducerCore>>,
    thread: Option<JoinHandle<()>>,
    window: WindowPolicy,
    room_at: usize,
}

impl Producer {
    /// Connects, and waits until the topic's partitions are known.
    ///
    /// # Errors
    /// `BadConfig`; `GaveUp` when the server could not be reached within `retry_for`; `Refused`.
    pub fn connect(config: ProducerConfig) -> Result<Producer, Error> {
        Producer::connect_with(config, |_| ())
    }

    /// The same, with a callback for acknowledgements, refusals and the connection's ups and downs. It is called
    /// on a thread of the driver and must neither block nor call this producer.
    ///
    /// # Errors
    /// As [`Producer::connect`].
    pub fn connect_with(
        config: ProducerConfig,
        mut on_event: impl FnMut(ProducerEvent) + Send + 'static,
    ) -> Result<Producer, Error> {
        let window = config.window;
        let room_at = config.buffer_bytes / 2;
        let core = ProducerCore::new(config, seed()?)?;
        let (shared, thread) = engine::start(core, move |core: &mut ProducerCore| {
            while let Some(event) = core.poll_event() {
                on_event(event);
            }
        })?;
        let producer = Producer { shared, thread: Some(thread), window, room_at };
        let ready = |core: &mut ProducerCore| core.partitions().map(|_| ());
        producer.shared.wait(None, ready)?;
        Ok(producer)
    }

    /// Takes a record; waits for room with the policy `Block`. The payload is copied into its batch.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&self, payload: &[u8], key: Option<&[u8]>) -> Result<Sent, SendError> {
        self.send_record(&Record { payload, key, ..Record::default() })
    }

    /// Takes a record with all it may have.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_record(&self, record: &Record<'_>) -> Result<Sent, SendError> {
        let (guard, sent) = self.send_locked(self.shared.lock(), record);
        self.shared.wake_io(&guard);
        sent
    }

    /// Takes many records with one look at the lock and the clock for each few hundred.
    ///
    /// # Errors
    /// The first [`SendError`]; how many were taken before it, beside it.
    pub fn send_all<'a>(
        &self,
        records: impl IntoIterator<Item = Record<'a>>,
    ) -> Result<u64, (u64, SendError)> {
        let mut taken = 0;
        let mut guard = self.shared.lock();
        let mut until_look = RECORDS_PER_LOOK;
        for record in records {
            let sent;
            (guard, sent) = self.send_locked(guard, &record);
            if let Err(error) = sent {
                self.shared.wake_io(&guard);
                return Err((taken, error));
            }
            taken += 1;
            until_look -= 1;
            if until_look == 0 {
                until_look = RECORDS_PER_LOOK;
                self.shared.wake_io(&guard);
                guard.now_ns = self.shared.now_ns();
            }
        }
        self.shared.wake_io(&guard);
        Ok(taken)
    }

    fn send_locked<'a>(
        &'a self,
        mut guard: Guard<'a, ProducerCore>,
        record: &Record<'_>,
    ) -> (Guard<'a, ProducerCore>, Result<Sent, SendError>) {
        loop {
            let now_ns = guard.now_ns;
            match guard.inner.core.send(record, now_ns) {
                Err(SendError::Full) if self.window == WindowPolicy::Block => {
                    self.shared.wake_io(&guard);
                    guard = self.shared.wait_for_room(guard, self.room_at);
                }
                other => return (guard, other),
            }
        }
    }

    /// Sends what is batched and waits until every record taken so far is acknowledged.
    ///
    /// # Errors
    /// `TimedOut`; `Refused` when some record was refused for good, ever; what ended the producer.
    pub fn flush(&self, timeout: Option<Duration>) -> Result<(), Error> {
        let mut target = None;
        let refusal = self.shared.wait(timeout, |core| {
            let target = *target.get_or_insert_with(|| {
                core.flush();
                core.records()
            });
            (core.resolved_prefix() >= target).then(|| core.first_refusal().cloned())
        })?;
        match refusal {
            Some((code, detail)) => Err(Error::Refused { code, detail }),
            None => Ok(()),
        }
    }

    /// Waits until a record is acknowledged or refused.
    ///
    /// # Errors
    /// `TimedOut`; what ended the producer.
    pub fn wait(&self, ticket: Ticket, timeout: Option<Duration>) -> Result<TicketStatus, Error> {
        self.shared.wait(timeout, |core| match core.status(ticket) {
            TicketStatus::Pending => None,
            decided => Some(decided),
        })
    }

    /// How many of the first records, in the order they were given, are all acknowledged.
    #[must_use]
    pub fn acknowledged_prefix(&self) -> u64 {
        self.shared.lock().inner.core.acknowledged_prefix()
    }

    /// What holds of every record acknowledged so far; `None` while there is none.
    #[must_use]
    pub fn acknowledged_level(&self) -> Option<AckLevel> {
        self.shared.lock().inner.core.acknowledged_level()
    }

    /// Records dropped by the policy `Drop`.
    #[must_use]
    pub fn dropped_records(&self) -> u64 {
        self.shared.lock().inner.core.dropped_records()
    }

    /// The topic's partitions.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.shared.lock().inner.core.partitions().unwrap_or(0)
    }

    /// Why it ended, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        self.shared.lock().inner.core.failure().cloned()
    }

    /// Flushes and ends.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub fn close(self, timeout: Option<Duration>) -> Result<(), Error> {
        self.flush(timeout)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has been reported
        }
    }
}

/// Consumes records. Shared by reference between threads; each event goes to one of them.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared<ConsumerCore>>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    /// Begins to connect and subscribe; does not wait for it (see [`Consumer::wait_subscribed`]).
    ///
    /// # Errors
    /// `BadConfig`, `Environment`.
    pub fn connect(config: ConsumerConfig) -> Result<Consumer, Error> {
        let core = ConsumerCore::new(config, seed()?)?;
        let (shared, thread) = engine::start(core, |_: &mut ConsumerCore| ())?;
        Ok(Consumer { shared, thread: Some(thread) })
    }

    /// Waits until every partition is subscribed: what is appended from then on is not missed.
    ///
    /// # Errors
    /// `TimedOut`; what ended the consumer.
    pub fn wait_subscribed(&self, timeout: Option<Duration>) -> Result<(), Error> {
        self.shared.wait(timeout, |core| core.is_subscribed().then_some(()))
    }

    /// The next event, waiting up to `timeout` for it (`None`: for as long as it takes); `Ok(None)` when none
    /// came in time. Events that came before the end are given first.
    ///
    /// # Errors
    /// What ended the consumer.
    pub fn next(&self, timeout: Option<Duration>) -> Result<Option<ConsumerEvent>, Error> {
        match self.shared.wait(timeout, ConsumerCore::poll_event) {
            Ok(event) => Ok(Some(event)),
            Err(Error::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves every event that is there to `out`, waiting up to `timeout` for the first; how many.
    ///
    /// # Errors
    /// What ended the consumer.
    pub fn next_events(
        &self,
        timeout: Option<Duration>,
        out: &mut Vec<ConsumerEvent>,
    ) -> Result<usize, Error> {
        let before = out.len();
        let all = |core: &mut ConsumerCore| {
            while let Some(event) = core.poll_event() {
                out.push(event);
            }
            (out.len() > before).then(|| out.len() - before)
        };
        match self.shared.wait(timeout, all) {
            Err(Error::TimedOut) => Ok(0),
            other => other,
        }
    }

    /// Says that a partition's records below `offset` are dealt with. Returns at once.
    ///
    /// # Errors
    /// `BadConfig`: the consumer has no name, or no such partition.
    pub fn commit(&self, partition: u32, offset: u64) -> Result<(), Error> {
        let mut guard = self.shared.lock();
        let result = guard.inner.core.commit(partition, offset);
        self.shared.wake_io(&guard);
        result
    }

    /// Waits until the server has confirmed every commit.
    ///
    /// # Errors
    /// `TimedOut`; what ended the consumer.
    pub fn flush_commits(&self, timeout: Option<Duration>) -> Result<(), Error> {
        self.shared.wait(timeout, |core| core.commits_settled().then_some(()))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has been reported
        }
    }
}

impl<C: Core> Shared<C> {
    /// Asks until it answers, between what the driver brings.
    fn wait<T>(
        &self,
        timeout: Option<Duration>,
        mut ask: impl FnMut(&mut C) -> Option<T>,
    ) -> Result<T, Error> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut guard = self.lock();
        loop {
            let answer = ask(&mut guard.inner.core);
            self.wake_io(&guard);
            if let Some(answer) = answer {
                return Ok(answer);
            }
            if guard.inner.core.wish() == Wish::End {
                return Err(guard.inner.core.failure().cloned().unwrap_or(Error::Closed));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Error::TimedOut);
            }
            guard = self.wait_for_news(guard, left);
        }
    }
}
