//! Runs control's tasks on virtual time: in the order in which they were woken, on the thread that steps the world.
//!
//! State and owner: the tasks of one life of a server, their timers, and the rings that are lent to its topics. The world
//! sets the time, and drops the tasks where the process ends.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::random::Random;
use crate::buf::Mapping;
use crate::control::api::ApiError;
use crate::control::host::{Host, Work};
use crate::io::{Clock, FileHandle};

/// Owners of a ring that is free: who maps them, and the executor's list.
const OWNERS_OF_FREE: usize = 2;

/// Numbers of tasks that were woken, in order.
type Woken = Arc<Mutex<VecDeque<usize>>>;

/// Wakes one task.
struct TaskWaker {
    woken: Woken,
    task: usize,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.task);
    }
}

/// See the module.
pub struct Executor {
    clock: Cell<Clock>,
    tasks: RefCell<Vec<Option<Work<()>>>>,
    free: RefCell<Vec<usize>>,
    woken: Woken,
    /// When whom to wake, by the timer's number; timers that nobody waits for any more are in the heap alone.
    timers: RefCell<BinaryHeap<Reverse<(u64, u64)>>>,
    waiting: RefCell<BTreeMap<u64, Waker>>,
    numbers: Cell<u64>,
    random: RefCell<Random>,
    rings: Vec<Arc<Mapping>>,
    /// Files that control has opened, for itself or for shards, and not closed.
    files_open: Cell<i64>,
}

impl Executor {
    /// Of a life that has these rings for its topics: those that only this list has are free.
    pub fn new(clock: Clock, random: Random, rings: Vec<Arc<Mapping>>) -> Rc<Executor> {
        Rc::new(Executor {
            clock: Cell::new(clock),
            tasks: RefCell::default(),
            free: RefCell::default(),
            woken: Woken::default(),
            timers: RefCell::default(),
            waiting: RefCell::default(),
            numbers: Cell::new(0),
            random: RefCell::new(random),
            rings,
            files_open: Cell::new(0),
        })
    }

    /// It is that late.
    pub fn set_clock(&self, clock: Clock) {
        self.clock.set(clock);
    }

    /// Runs whoever can go on, until nobody can before time does; whether somebody could.
    pub fn run(&self) -> bool {
        self.ring_timers();
        let mut ran = false;
        while let Some(task) = self.next_woken() {
            let Some(mut work) = self.tasks.borrow_mut()[task].take() else { continue };
            ran = true;
            let waker = Waker::from(Arc::new(TaskWaker { woken: Arc::clone(&self.woken), task }));
            match work.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(()) => self.free.borrow_mut().push(task),
                Poll::Pending => self.tasks.borrow_mut()[task] = Some(work),
            }
        }
        ran
    }

    fn next_woken(&self) -> Option<usize> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn ring_timers(&self) {
        while let Some(at_ns) = self.next_ns() {
            if at_ns > self.clock.get().mono_ns {
                return;
            }
            let timer = self.timers.borrow_mut().pop();
            let waker = timer.and_then(|Reverse((_, number))| self.waiting.borrow_mut().remove(&number));
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// When the next timer rings.
    pub fn next_ns(&self) -> Option<u64> {
        let mut timers = self.timers.borrow_mut();
        let waiting = self.waiting.borrow();
        while let Some(&Reverse((at_ns, number))) = timers.peek() {
            if waiting.contains_key(&number) {
                return Some(at_ns);
            }
            timers.pop();
        }
        None
    }

    /// The process ends: no task goes on.
    pub fn end(&self) {
        loop {
            // Tasks may start others where they end.
            let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
            if tasks.is_empty() {
                return;
            }
            drop(tasks);
        }
    }

    /// A file has been opened.
    pub fn opened(&self) {
        self.files_open.set(self.files_open.get() + 1);
    }

    /// Files that were opened and not closed.
    pub fn files_open(&self) -> i64 {
        self.files_open.get()
    }

    /// Rings that are lent.
    pub fn rings_in_use(&self) -> usize {
        self.rings.iter().filter(|ring| Arc::strong_count(ring) > OWNERS_OF_FREE).count()
    }

    /// So many rings of that length, if there are as many.
    pub fn take_rings(&self, count: usize, ring_bytes: u64) -> Option<Vec<Arc<Mapping>>> {
        let free = self
            .rings
            .iter()
            .filter(|ring| Arc::strong_count(ring) == OWNERS_OF_FREE && ring.bytes() as u64 == ring_bytes);
        let taken: Vec<_> = free.take(count).cloned().collect();
        (taken.len() == count).then_some(taken)
    }
}

/// Ends at its time.
struct Sleep {
    executor: Rc<Executor>,
    at_ns: u64,
    number: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Sleep { executor, at_ns, number } = &*self;
        if executor.clock.get().mono_ns >= *at_ns {
            return Poll::Ready(());
        }
        let before = executor.waiting.borrow_mut().insert(*number, context.waker().clone());
        if before.is_none() {
            executor.timers.borrow_mut().push(Reverse((*at_ns, *number)));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.executor.waiting.borrow_mut().remove(&self.number);
    }
}

/// The executor as control's tasks have it.
pub struct SimHost(pub Rc<Executor>);

impl Host for SimHost {
    fn spawn(&self, task: Work<()>) {
        let mut tasks = self.0.tasks.borrow_mut();
        let number = match self.0.free.borrow_mut().pop().filter(|&free| free < tasks.len()) {
            Some(free) => {
                tasks[free] = Some(task);
                free
            }
            None => {
                tasks.push(Some(task));
                tasks.len() - 1
            }
        };
        self.0.woken.lock().unwrap_or_else(PoisonError::into_inner).push_back(number);
    }

    fn sleep(&self, pause: Duration) -> Work<()> {
        let number = self.0.numbers.get();
        self.0.numbers.set(number + 1);
        let pause_ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        let at_ns = self.0.clock.get().mono_ns.saturating_add(pause_ns);
        Box::pin(Sleep { executor: Rc::clone(&self.0), at_ns, number })
    }

    fn clock(&self) -> Clock {
        self.0.clock.get()
    }

    fn number(&self) -> std::io::Result<u64> {
        Ok(self.0.random.borrow_mut().number() | 1)
    }

    fn rings(&self, count: usize, ring_bytes: u64, _huge: bool) -> Work<Result<Vec<Arc<Mapping>>, ApiError>> {
        let rings = self.0.take_rings(count, ring_bytes);
        let refused = || ApiError::new(507, "host_refused_memory", "The simulated host has no more.");
        Box::pin(std::future::ready(rings.ok_or_else(refused)))
    }

    fn close(&self, file: FileHandle) {
        drop(file);
        self.0.files_open.set(self.0.files_open.get() - 1);
    }
}
