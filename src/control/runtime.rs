//! What control's tasks run on: tokio-uring where the shards run on io_uring, else plain tokio.
//!
//! Nothing here touches io_uring unless it has been found to work: a runtime that was made on a host that forbids half
//! of it would fail later, in the middle of a save.

use std::net::TcpListener;

#[cfg(feature = "uring")]
use super::Degraded;
use super::drain::exit;
use super::files::Disk;
#[cfg(feature = "uring")]
use super::journal;
use super::{ControlSpec, main};
use crate::io::choice::Backend;
#[cfg(feature = "uring")]
use crate::log::Level;

/// Runs control until the server has stopped; the exit status. `ready` is told, once, when the server is
/// running or why it is not.
pub(crate) fn run(spec: ControlSpec, ready: impl FnOnce(Result<(), String>)) -> u8 {
    match spec.io.backend {
        #[cfg(feature = "uring")]
        Backend::Uring => with_uring(spec, ready),
        #[cfg(feature = "epoll")]
        Backend::Epoll => plain(spec, ready),
    }
}

#[cfg(feature = "uring")]
fn with_uring(mut spec: ControlSpec, ready: impl FnOnce(Result<(), String>)) -> u8 {
    let runtime = match tokio_uring::Runtime::new(&tokio_uring::builder()) {
        Ok(runtime) => runtime,
        Err(error) => {
            let detail = format!(
                "control runs without io_uring ({error}): admin requests and catalogue saves use readiness and \
                 blocking calls; raise the locked-memory limit and that of open files (LimitMEMLOCK=, LimitNOFILE=), \
                 which one more ring needs"
            );
            journal::note(Level::Warn, "control_without_uring", &detail);
            spec.degraded.push(Degraded { key: "control_without_uring", detail });
            return plain(spec, ready);
        }
    };
    runtime.block_on(async {
        match spec.admin.try_clone().map(tokio_uring::net::TcpListener::from_std) {
            Ok(listener) => main(spec, Disk::Uring, listener, ready).await,
            Err(error) => failed(&error, ready),
        }
    })
}

fn plain(spec: ControlSpec, ready: impl FnOnce(Result<(), String>)) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error, ready),
    };
    tokio::task::LocalSet::new().block_on(&runtime, async {
        match spec.admin.try_clone().and_then(listen) {
            Ok(listener) => main(spec, Disk::Blocking, listener, ready).await,
            Err(error) => failed(&error, ready),
        }
    })
}

fn listen(admin: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    admin.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(admin)
}

fn failed(error: &std::io::Error, ready: impl FnOnce(Result<(), String>)) -> u8 {
    ready(Err(error.to_string()));
    exit::FAILED
}
