//! A ring and its two queues, taken apart once: so the indices are read and written once a round, not once
//! an entry.

use std::io;
use std::os::fd::RawFd;

use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, squeue};

/// Entries of the submission queue: a full queue is submitted and goes on.
const SUBMISSIONS: u32 = 1024;

/// A ring over these sockets; entries name them by their index.
pub(super) fn ring(sockets: &[RawFd]) -> io::Result<IoUring> {
    let completions = u32::try_from(sockets.len()).map_err(io::Error::other)?.saturating_mul(2).max(4096);
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(completions)
        .build(SUBMISSIONS)
        .map_err(|error| {
            io::Error::new(error.kind(), format!("making a ring (Linux 6.1 or newer): {error}"))
        })?;
    ring.submitter().register_files(sockets)?;
    Ok(ring)
}

/// See the module.
pub(super) struct Queues<'a> {
    submitter: Submitter<'a>,
    submissions: SubmissionQueue<'a>,
    completions: CompletionQueue<'a>,
}

impl<'a> Queues<'a> {
    /// Takes the ring apart, for the thread that calls.
    pub(super) fn of(ring: &'a mut IoUring) -> io::Result<Queues<'a>> {
        let (mut submitter, submissions, completions) = ring.split();
        submitter.register_ring_fd()?;
        Ok(Queues { submitter, submissions, completions })
    }

    /// Queues a request, submitting what is queued when there is no room.
    ///
    /// # Safety
    /// What the entry points to stays valid until its last completion.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller's.
        while unsafe { self.submissions.push(entry) }.is_err() {
            self.enter(0)?;
        }
        Ok(())
    }

    /// Submits what is queued, waits for at least so many completions, and shows them to `next`.
    pub(super) fn enter(&mut self, wanted: usize) -> io::Result<()> {
        self.submissions.sync();
        match self.submitter.submit_and_wait(wanted) {
            Ok(_) => {}
            // Completions are to be taken first, or a signal came: there is another round.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::EINTR)) => {}
            Err(error) => return Err(error),
        }
        self.submissions.sync();
        self.completions.sync();
        Ok(())
    }

    /// The next completion the last `enter` has brought.
    pub(super) fn next(&mut self) -> Option<cqueue::Entry> {
        self.completions.next()
    }
}

impl Drop for Queues<'_> {
    fn drop(&mut self) {
        // A registered descriptor would keep the ring open until the thread ends.
        let _closed = self.submitter.unregister_ring_fd();
    }
}
