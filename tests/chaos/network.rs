//! Two network namespaces with a cable between them: the server's, in which the case's own thread then is, and its clients'.
//! They have no names, and end with the last process and descriptor in them; the host's own network is not touched.
//!
//! The admin port is on the loopback interface of the server's namespace: it answers whatever becomes of the cable.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;

use crate::harness::Skipped;
use crate::rig::Case;
use crate::support::{Server, free_address};

/// The two ends of the cable.
pub const SERVERS_END: &str = "uringest-s";
pub const CLIENTS_END: &str = "uringest-c";
pub const SERVER: &str = "10.77.0.1";
pub const CLIENT: &str = "10.77.0.2";

pub struct Network {
    clients: File,
}

impl Network {
    /// Takes this thread into the server's namespace.
    pub fn new() -> Result<Network, Skipped> {
        leave_the_hosts()?;
        let clients = std::thread::scope(|scope| {
            let made = scope.spawn(|| leave_the_hosts().map(|()| namespace()));
            made.join().expect("it only makes a namespace")
        })?;
        let network = Network { clients };
        let theirs = format!("/proc/{}/fd/{}", std::process::id(), network.clients.as_raw_fd());
        let ends = ["name", SERVERS_END, "type", "veth", "peer", "name", CLIENTS_END, "netns", &theirs];
        ip(&[&["link", "add"], &ends[..]].concat())
            .map_err(|why| Skipped(format!("a cable between two namespaces: {why}")))?;
        let both = |end: &str, address: &str| {
            must(ip(&["link", "set", "lo", "up"]));
            must(ip(&["addr", "add", &format!("{address}/24"), "dev", end]));
            must(ip(&["link", "set", end, "up"]));
        };
        both(SERVERS_END, SERVER);
        network.in_clients(&mut || both(CLIENTS_END, CLIENT));
        Ok(network)
    }

    /// A server at this end of the cable.
    pub fn start(&self, case: &Case, directory: &Path, args: &[&str]) -> Server {
        let data = SocketAddr::new(SERVER.parse().expect("an address"), free_address().port());
        let args = [&["--insecure-plaintext"], args].concat();
        case.start_at(directory, data, free_address(), &args)
    }

    /// Calls this in the clients' namespace; threads that it starts stay there.
    pub fn in_clients(&self, call: &mut (dyn FnMut() + Send)) {
        let enter_and_call = || {
            // SAFETY: the call takes no pointer; the descriptor is open as long as `self` is.
            let entered = unsafe { libc::setns(self.clients.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(entered, 0, "{}", std::io::Error::last_os_error());
            call();
        };
        std::thread::scope(|scope| {
            let thread = scope.spawn(enter_and_call);
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }

    /// Takes the cable out of one end, or puts it in again.
    pub fn plug(&self, end: &str, how: Plug) {
        let state = if how == Plug::In { "up" } else { "down" };
        let set = || must(ip(&["link", "set", end, state]));
        if end == CLIENTS_END { self.in_clients(&mut || set()) } else { set() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plug {
    In,
    Out,
}

/// A network namespace of this thread's own.
fn leave_the_hosts() -> Result<(), Skipped> {
    // SAFETY: the call takes no pointer, and changes this thread alone.
    let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    let why = std::io::Error::last_os_error();
    if left == 0 {
        Ok(())
    } else {
        Err(Skipped(format!("a network namespace of its own: {why} (needs root)")))
    }
}

fn namespace() -> File {
    File::open("/proc/thread-self/ns/net").expect("this thread's own")
}

/// Runs `ip` of iproute2 in this thread's namespace.
pub fn ip(args: &[&str]) -> Result<String, String> {
    tool("ip", args)
}

/// Runs a tool in this thread's namespaces: what it printed, or what went wrong.
pub fn tool(name: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(name).args(args).output().map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name} {}: {}", args.join(" "), said.trim().replace('\n', " ")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn must(done: Result<String, String>) {
    done.unwrap_or_else(|why| panic!("{why}"));
}
