//! The ring itself: made with the flags the kernel takes, entered through its registered descriptor.
//!
//! The `io-uring` crate keeps the index of a registered ring descriptor in a short-lived `Submitter`, so
//! entering is done here, with the two raw system calls it takes.
//!
//! Invariant: a ring is entered by the thread that made it (`SINGLE_ISSUER`); `Ring` is not `Send`.

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;

use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, squeue};

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 8;
const ENTER_REGISTERED_RING: u32 = 16;
const REGISTER_RING_FDS: libc::c_long = 20;
const UNREGISTER_RING_FDS: libc::c_long = 21;

/// `struct io_uring_getevents_arg` (`io_uring_enter(2)`).
#[repr(C)]
struct GetEventsArg {
    sigmask: u64,
    sigmask_bytes: u32,
    min_wait_us: u32,
    timeout: u64,
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RsrcUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// How a ring is to be set up. Flags are tried from the most to the least wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingShape {
    /// Submission entries, a power of two.
    pub sq_entries: u32,
    /// Completion entries, a power of two.
    pub cq_entries: u32,
    /// Flags of 6.0 and newer; without, a plain ring.
    pub modern: bool,
}

/// Which of the modern flags a ring has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RingFlags {
    pub single_issuer: bool,
    pub defer_taskrun: bool,
    pub no_sqarray: bool,
    pub coop_taskrun: bool,
}

/// See the module.
pub(super) struct Ring {
    inner: IoUring,
    flags: RingFlags,
    /// Index of the registered ring descriptor of this thread.
    registered: Option<u32>,
    _not_send: PhantomData<*mut ()>,
}

/// Tries again a few times on `ENOMEM`: what a closed ring had locked is let go of a little later.
pub(super) fn patiently<T>(mut step: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..5 {
        match step() {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                // SAFETY: no descriptors, so no memory is involved: 10 ms pass.
                unsafe { libc::poll(std::ptr::null_mut(), 0, 10) };
            }
            other => return other,
        }
    }
    step()
}

/// What came of entering the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entered {
    Done,
    /// The time was up before anything completed.
    TimedOut,
    /// A signal came first.
    Interrupted,
    /// Completions must be taken first.
    Busy,
}

impl Ring {
    /// Makes a ring; on `ENOMEM` a smaller one is tried, down to 64 completions.
    pub(super) fn new(shape: RingShape) -> io::Result<Ring> {
        let mut shape = shape;
        loop {
            match patiently(|| Ring::with_flags(shape)) {
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && shape.cq_entries > 64 => {
                    shape.cq_entries /= 2;
                    shape.sq_entries = shape.sq_entries.min(shape.cq_entries);
                }
                other => return other,
            }
        }
    }

    fn with_flags(shape: RingShape) -> io::Result<Ring> {
        let plain = RingFlags::default();
        let deferred = RingFlags { single_issuer: true, defer_taskrun: true, ..plain };
        let wanted: &[RingFlags] = if shape.modern {
            &[
                RingFlags { no_sqarray: true, ..deferred },
                deferred,
                RingFlags { single_issuer: true, coop_taskrun: true, ..plain },
                plain,
            ]
        } else {
            &[plain]
        };
        let mut last = io::Error::from_raw_os_error(libc::EINVAL);
        for flags in wanted {
            match Ring::try_flags(shape, *flags) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    fn try_flags(shape: RingShape, flags: RingFlags) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(shape.cq_entries).dontfork();
        if flags.single_issuer {
            builder.setup_single_issuer().setup_submit_all();
        }
        if flags.defer_taskrun {
            builder.setup_defer_taskrun().setup_taskrun_flag();
        } else if flags.coop_taskrun {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        if flags.no_sqarray {
            builder.setup_no_sqarray();
        }
        let inner = builder.build(shape.sq_entries)?;
        let mut ring = Ring { inner, flags, registered: None, _not_send: PhantomData };
        if shape.modern {
            ring.registered = ring.register_descriptor();
        }
        Ok(ring)
    }

    fn register_descriptor(&self) -> Option<u32> {
        let fd = self.inner.as_raw_fd();
        let mut update = RsrcUpdate { offset: u32::MAX, reserved: 0, data: u64::from(fd.cast_unsigned()) };
        // SAFETY: `update` is a valid `io_uring_rsrc_update` for the length of the call, which reads one of
        // them and writes the chosen index back into `offset`; `fd` is this ring's.
        let registered =
            unsafe { libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_RING_FDS, &raw mut update, 1) };
        (registered == 1).then_some(update.offset)
    }

    pub(super) fn flags(&self) -> RingFlags {
        self.flags
    }

    pub(super) fn raw_fd(&self) -> i32 {
        self.inner.as_raw_fd()
    }

    pub(super) fn parameters(&self) -> &io_uring::Parameters {
        self.inner.params()
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.inner.submitter()
    }

    pub(super) fn submission(&mut self) -> SubmissionQueue<'_> {
        self.inner.submission()
    }

    pub(super) fn completion(&mut self) -> CompletionQueue<'_> {
        self.inner.completion()
    }

    /// Queues an entry; false when the queue is full.
    pub(super) fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: every entry is built by this backend, which keeps the memory an entry names (regions,
        // message headers, span lists) alive and unmoved until the operation's last completion, and closes
        // the ring before any of it is freed.
        unsafe { self.inner.submission().push(entry).is_ok() }
    }

    /// Submits what is queued. `wait_ns`: `None` does not wait; `Some(u64::MAX)` waits for a completion;
    /// any other figure waits at most that long, which needs `EXT_ARG`.
    pub(super) fn enter(&mut self, wait_ns: Option<u64>) -> io::Result<Entered> {
        let queued = u32::try_from(self.inner.submission().len()).unwrap_or(u32::MAX);
        let timeout = wait_ns.filter(|ns| *ns != u64::MAX).map(|ns| KernelTimespec {
            seconds: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
            nanoseconds: i64::try_from(ns % 1_000_000_000).unwrap_or(0),
        });
        let argument = timeout.as_ref().map(|timeout| GetEventsArg {
            sigmask: 0,
            sigmask_bytes: 0,
            min_wait_us: 0,
            timeout: std::ptr::from_ref(timeout) as u64,
        });
        let (pointer, bytes) = match &argument {
            Some(argument) => (std::ptr::from_ref(argument), size_of::<GetEventsArg>()),
            None => (std::ptr::null(), 0),
        };
        let mut flags = ENTER_GETEVENTS;
        if argument.is_some() {
            flags |= ENTER_EXT_ARG;
        }
        let fd = match self.registered {
            Some(index) => {
                flags |= ENTER_REGISTERED_RING;
                index.cast_signed()
            }
            None => self.inner.as_raw_fd(),
        };
        // SAFETY: the descriptor is this ring's and is entered by its own thread; `argument` and the
        // timespec it points to outlive the call; the entries queued are valid as `push` says.
        let entered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                fd,
                queued,
                u32::from(wait_ns.is_some()),
                flags,
                pointer,
                bytes,
            )
        };
        if entered >= 0 {
            return Ok(Entered::Done);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ETIME) => Ok(Entered::TimedOut),
            Some(libc::EINTR) => Ok(Entered::Interrupted),
            Some(libc::EBUSY | libc::EAGAIN) => Ok(Entered::Busy),
            _ => Err(error),
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // A registered descriptor keeps the ring open until its thread ends.
        if let Some(index) = self.registered {
            let update = RsrcUpdate { offset: index, reserved: 0, data: 0 };
            // SAFETY: `update` is valid for the call; the index is the one this ring's thread was given.
            unsafe {
                libc::syscall(
                    libc::SYS_io_uring_register,
                    self.inner.as_raw_fd(),
                    UNREGISTER_RING_FDS,
                    &raw const update,
                    1,
                );
            }
        }
    }
}
