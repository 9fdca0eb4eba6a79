//! What the kernel's error numbers mean to a shard, and why a backend could not be made.

use std::fmt;
use std::io;

use super::IoError;

/// How an `errno` is reported.
pub(super) fn error_of(errno: i32) -> IoError {
    match errno {
        libc::EAGAIN => IoError::WouldBlock,
        libc::ENOBUFS => IoError::NoBuffers,
        libc::ECANCELED => IoError::Cancelled,
        libc::ECONNRESET
        | libc::EPIPE
        | libc::ECONNABORTED
        | libc::ETIMEDOUT
        | libc::ENOTCONN
        | libc::EHOSTUNREACH
        | libc::ENETUNREACH => IoError::PeerGone,
        libc::EMFILE | libc::ENFILE => IoError::NoDescriptors,
        libc::ENOMEM => IoError::NoMemory,
        other => IoError::Os(other),
    }
}

/// The same for `accept`, which has no buffers to run out of.
pub(super) fn accept_error_of(errno: i32) -> IoError {
    match error_of(errno) {
        IoError::NoBuffers => IoError::NoMemory,
        other => other,
    }
}

/// Whether a listener is as good as before: the connection went away before it was taken, or a firewall refused
/// it; see accept(2).
pub(super) fn accepting_goes_on(error: IoError) -> bool {
    matches!(
        error,
        IoError::PeerGone | IoError::WouldBlock | IoError::Os(libc::EPROTO | libc::EPERM | libc::EINTR)
    )
}

/// The last call's `errno`, where it has failed (its result is negative).
#[cfg(feature = "epoll")]
pub(super) fn result_of(result: isize) -> Result<usize, i32> {
    usize::try_from(result).map_err(|_| last_errno())
}

/// The error number of the last call that failed.
pub(super) fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Why there is no such backend, and what would help.
#[derive(Debug)]
pub struct SetupError {
    /// The step that failed.
    pub doing: &'static str,
    /// What the kernel said.
    pub source: io::Error,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.doing, self.source, self.remedy)
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
