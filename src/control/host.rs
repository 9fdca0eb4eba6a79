//! What control's tasks run on: who runs them, what time it is, and what they get from the machine beside files.
//!
//! In the product that is the runtime that calls control, and this machine. A world that is stepped has its own, so that
//! control's work there is the same code, in its time.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::api::ApiError;
use super::registry::make_rings;
use super::wall_ns;
use crate::buf::Mapping;
use crate::io::host::monotonic_ns;
use crate::io::{Clock, FileHandle};

/// Some work, with what it comes to.
pub type Work<T> = Pin<Box<dyn Future<Output = T>>>;

/// See the module.
pub trait Host {
    /// Runs a task beside the one that calls, on the same thread, until its end or the process's.
    fn spawn(&self, task: Work<()>);

    /// Ends after that long.
    fn sleep(&self, pause: Duration) -> Work<()>;

    /// Both clocks, now.
    fn clock(&self) -> Clock;

    /// A number that nobody else has got.
    ///
    /// # Errors
    /// The machine has none to give.
    fn number(&self) -> std::io::Result<u64>;

    /// Memory for so many rings of that length.
    fn rings(&self, count: usize, ring_bytes: u64, huge: bool) -> Work<Result<Vec<Arc<Mapping>>, ApiError>>;

    /// Closes a file, which may take time and keeps nobody waiting.
    fn close(&self, file: FileHandle);
}

/// Runs some work beside the task that calls; what it comes to can be waited for, or not.
pub(super) fn beside<T: 'static>(
    host: &dyn Host,
    work: impl Future<Output = T> + 'static,
) -> oneshot::Receiver<T> {
    let (done, receiver) = oneshot::channel();
    host.spawn(Box::pin(async move {
        // Whoever asked may have stopped waiting.
        let _ = done.send(work.await);
    }));
    receiver
}

/// What the work comes to, unless that takes longer than `limit`.
pub(super) async fn within<T>(host: &dyn Host, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        result = work => Some(result),
        () = host.sleep(limit) => None,
    }
}

/// The runtime that calls, and this machine.
pub(super) struct Machine;

impl Machine {
    pub(super) fn shared() -> Rc<dyn Host> {
        Rc::new(Machine)
    }
}

impl Host for Machine {
    fn spawn(&self, task: Work<()>) {
        tokio::task::spawn_local(task);
    }

    fn sleep(&self, pause: Duration) -> Work<()> {
        Box::pin(tokio::time::sleep(pause))
    }

    fn clock(&self) -> Clock {
        Clock { mono_ns: monotonic_ns(), wall_ns: wall_ns() }
    }

    fn number(&self) -> std::io::Result<u64> {
        getrandom::u64().map_err(std::io::Error::other)
    }

    fn rings(&self, count: usize, ring_bytes: u64, huge: bool) -> Work<Result<Vec<Arc<Mapping>>, ApiError>> {
        Box::pin(async move {
            let rings = tokio::task::spawn_blocking(move || make_rings(count, ring_bytes, huge)).await;
            match rings {
                Ok(Ok(rings)) => Ok(rings),
                Ok(Err(error)) => Err(ApiError::new(507, "host_refused_memory", error.to_string())),
                Err(error) => Err(ApiError::new(500, "internal", error.to_string())),
            }
        })
    }

    fn close(&self, file: FileHandle) {
        // The last close of a file that has no name any more gives its room back.
        drop(tokio::task::spawn_blocking(move || drop(file)));
    }
}
