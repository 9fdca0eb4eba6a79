//! The real program in a cage: a seccomp filter that forbids the three calls of io_uring, as a container's default
//! profile does (`EPERM`) or as a sandbox that does not know them (`ENOSYS`). A build with both backends says so, and
//! serves on epoll; one with io_uring alone refuses; one without io_uring has no business with these calls.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

#[cfg(all(feature = "uring", feature = "epoll"))]
mod both;
#[cfg(not(feature = "uring"))]
mod epoll_alone;
mod filter;
#[path = "../support/mod.rs"]
mod support;
#[cfg(not(feature = "epoll"))]
mod uring_alone;

#[cfg(not(all(feature = "uring", feature = "epoll")))]
use filter::open;
use filter::{Cage, caged, run_caged};
use serde_json::Value;
use support::{Server, feed, uringest};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A server in the cage, with these further arguments and its log as JSON.
fn serve_caged(args: &[&str], cage: &Cage) -> Server {
    let all = [&["--shards", "2", "--log-format", "json"], args].concat();
    Server::start_with(&all, |command| caged(command, cage))
}

/// Records go through, as many as it takes for every path of a shard, from and to programs in the same cage.
fn records_pass(server: &Server, cage: &Cage) {
    let url = server.url();
    let lines: Vec<u8> = (1..=50_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    let published = feed(&mut caged(uringest(&["pub", "caged", "--server", &url]), cage), &lines);
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let args = ["sub", "caged", "--from", "earliest", "--count", "50000", "--server", &url];
    let consumed = feed(&mut caged(uringest(&args), cage), b"");
    assert!(consumed.stdout == lines, "{} bytes came of {}", consumed.stdout.len(), lines.len());
}

/// A `serve` with these further arguments that ends by itself: exit code and standard error.
fn does_not_serve(args: &[&str], cage: &Cage) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_str().expect("UTF-8");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", data];
    let (code, out, err) = run_caged(&[&serve[..], args].concat(), cage);
    assert_eq!(out, "", "nothing went well: {err}");
    (code, err)
}

/// What is asked for and not in this build is refused as a wrong configuration, by the name of what to build.
#[cfg(not(all(feature = "uring", feature = "epoll")))]
fn is_refused_as_not_built(args: &[&str], setting: &str, feature: &str) {
    let (code, err) = does_not_serve(args, &open());
    assert_eq!(code, Some(2), "{err}");
    for part in [setting, "this build has no ", "the default build", &format!("--features {feature}")] {
        assert!(err.contains(part), "{args:?}: {part} in: {err}");
    }
}

fn end(mut server: Server) {
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}
