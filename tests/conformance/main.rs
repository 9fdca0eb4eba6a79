//! The same cases on every I/O backend: what `trait Io` promises, held to real sockets on loopback.
//!
//! A backend this host cannot have is skipped with a line that says why (`--nocapture` shows it).

mod cancels;
mod cases;
mod crowd;
mod ends;
#[cfg(feature = "epoll")]
mod epoll;
mod files;
mod races;
#[cfg(feature = "uring")]
mod uring;
mod world;
