//! A bounded queue with one producer and one consumer, on different threads.
//!
//! `tail` counts what was ever pushed, `head` what was ever popped; both wrap, and a position's slot is its
//! low bits. Invariants, which the SAFETY comments below refer to:
//!
//! 1. `0 <= tail - head <= capacity` (wrapping). The slots of `head..tail` hold values, the others do not.
//! 2. Only the `Sender` stores `tail`, only the `Receiver` stores `head`; there is one of each, and both
//!    need `&mut self` for it.
//! 3. A slot belongs to the sender from the acquire load of `head` that shows it empty until its release
//!    store of `tail`; then to the receiver until its release store of `head`.
//!
//! Each side keeps a copy of the other's index and reads the shared one only when the copy says full or
//! empty, so that a busy ring moves one cache line for many messages.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use super::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// On a cache line of its own, and not in the pair that the adjacent-line prefetcher fetches.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Line<T>(pub(super) T);

struct Shared<T> {
    head: Line<AtomicUsize>,
    tail: Line<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: values of `T` move from the sender's thread to the receiver's, which `T: Send` allows. The slots
// are reached only through the one `Sender` and the one `Receiver`, never both at the same slot (invariant
// 3), and by `drop` when neither exists any more.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above; `&Shared<T>` gives no access to a `T` by itself.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The slot of a position. The length is a power of two, so the mask never leaves the slice.
    fn slot(&self, position: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[position & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tail = self.tail.0.load(Ordering::Relaxed);
        let mut head = self.head.0.load(Ordering::Relaxed);
        while head != tail {
            // SAFETY: `&mut self`: both ends are gone, and dropping their `Arc`s ordered their stores
            // before this. By invariant 1 the slot holds a value, and it is dropped once: `head` moves on.
            self.slot(head).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

/// The producing end of a ring.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    /// What is in `shared.tail`.
    tail: usize,
    /// A past value of `shared.head`: there is at least the room it shows.
    head_seen: usize,
}

/// The consuming end of a ring.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// What is in `shared.head`.
    head: usize,
    /// A past value of `shared.tail`: there are at least the values it shows.
    tail_seen: usize,
}

/// A ring of `capacity` values.
///
/// # Panics
/// When `capacity` is not a power of two.
#[must_use]
pub fn ring<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity.is_power_of_two(), "a ring's capacity is a power of two");
    let shared = Arc::new(Shared {
        head: Line(AtomicUsize::new(0)),
        tail: Line(AtomicUsize::new(0)),
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    (Sender { shared: shared.clone(), tail: 0, head_seen: 0 }, Receiver { shared, head: 0, tail_seen: 0 })
}

/// Bytes of memory a ring of `capacity` values takes.
#[must_use]
pub const fn ring_bytes<T>(capacity: usize) -> usize {
    size_of::<Shared<T>>() + capacity * size_of::<T>()
}

impl<T: Send> Sender<T> {
    /// Puts a value into the ring.
    ///
    /// # Errors
    /// The value itself when the ring is full.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.free_seen() == 0 {
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
            if self.free_seen() == 0 {
                return Err(value);
            }
        }
        self.shared.slot(self.tail).with_mut(|slot| {
            // SAFETY: `tail - head_seen < capacity`, and `head_seen` came from an acquire load, so the slot
            // at `tail` is empty and ours (invariants 1 and 3) until the store below.
            unsafe { slot.write(MaybeUninit::new(value)) };
        });
        self.tail = self.tail.wrapping_add(1);
        self.shared.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// How many values may certainly be pushed now.
    #[must_use]
    pub fn free(&mut self) -> usize {
        self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        self.free_seen()
    }

    fn free_seen(&self) -> usize {
        self.shared.slots.len() - self.tail.wrapping_sub(self.head_seen)
    }
}

impl<T: Send> Receiver<T> {
    /// Takes the oldest value, if there is one.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: `head != tail_seen`, and `tail_seen` came from an acquire load, so the slot at `head` holds
        // a value that is ours (invariants 1 and 3). It is read once: `head` moves on, and the sender does
        // not write the slot before it sees that.
        let value = self.shared.slot(self.head).with_mut(|slot| unsafe { (*slot).assume_init_read() });
        self.head = self.head.wrapping_add(1);
        self.shared.head.0.store(self.head, Ordering::Release);
        Some(value)
    }

    /// Whether a value is there now. Reads the shared index unless one is known of.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head == self.tail_seen && self.head == self.shared.tail.0.load(Ordering::Acquire)
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("pushed", &self.tail).finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("popped", &self.head).finish_non_exhaustive()
    }
}
