//! A bare program as a subject: started with a socket that listens already, so that there is nothing to wait for.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::bare::{BareIo, FlowShape, Role, listen};
use crate::dialect::LEAD_BYTES_MIN;
use crate::dialect::bare::{BareDialect, unit_bytes};
use crate::failure::Failure;
use crate::host::Placement;
use crate::outcome::COMMIT;
use crate::scenario::{Drive, Flow, Work};
use crate::subject::{Identity, Process, Subject};

/// What a sender of bulk collects before the program is woken.
const BULK_WAKE_BYTES: usize = 256 * 1024;

/// See the module. `ANSWERED`: it replies to each unit.
#[derive(Debug)]
pub(super) struct BareServer<const ANSWERED: bool> {
    process: Process,
    identity: Identity,
    dialect: BareDialect<ANSWERED>,
}

impl<const ANSWERED: bool> BareServer<ANSWERED> {
    pub(super) fn start(
        role: Role,
        io: BareIo,
        work: &Work,
        placement: &Placement,
    ) -> Result<BareServer<ANSWERED>, Failure> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| Failure::Host { what, source }
        };
        let program = std::env::current_exe().map_err(failed("this program's own path is not known"))?;
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .map_err(failed("a bare program's socket cannot listen on loopback with cubic"))?;
        let address = listener.local_addr().map_err(failed("a socket has no address"))?;
        let name = format!("bare {}", role.name());
        let mut command = Command::new(program);
        command.args(["bare", "--role", role.name(), "--io", io.name()]);
        command.arg("--listener").arg(listener.as_raw_fd().to_string());
        command.arg("--wake-bytes").arg(wake_bytes(role, work).to_string());
        for flow in &work.flows {
            command.arg("--flow").arg(shape(flow).to_string());
        }
        command.stdout(Stdio::null()); // results are the benchmark's alone
        bequeath(&mut command, &listener);
        let process = Process::start(&name, &mut command, &placement.server_cpus, None)?;
        drop(listener); // should the program fail, connections are refused and not left waiting
        let identity = Identity {
            name,
            version: COMMIT.into(),
            ack: if ANSWERED { "received" } else { "none" }.into(),
            io: io.name().into(),
            warnings: if cfg!(debug_assertions) {
                vec!["the bare program is a debug build: its figures mean nothing".into()]
            } else {
                Vec::new()
            },
        };
        Ok(BareServer { process, identity, dialect: BareDialect::new(address, &work.flows) })
    }
}

/// Lets the child have the socket.
fn bequeath(command: &mut Command, listener: &TcpListener) {
    let fd = listener.as_raw_fd();
    // SAFETY: between fork and exec only a system call is made; nothing is allocated or locked.
    unsafe {
        command.pre_exec(move || {
            // Only the child's descriptor loses its close-on-exec flag.
            if libc::fcntl(fd, libc::F_SETFD, 0) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

/// Bytes that a socket has before it wakes the program. Only bulk that nobody waits for: everything else is to be
/// passed on or answered at once. Together the senders of a flow keep less back than they may be ahead.
fn wake_bytes(role: Role, work: &Work) -> usize {
    let senders = work.flows.iter().map(|flow| flow.connections).max().unwrap_or(1);
    match (role, work.drive) {
        (Role::Sink, Drive::Saturate) => BULK_WAKE_BYTES,
        (Role::Relay, Drive::Saturate) => BULK_WAKE_BYTES.min(LEAD_BYTES_MIN / 2 / senders).max(1),
        _ => 1,
    }
}

fn shape(flow: &Flow) -> FlowShape {
    FlowShape {
        senders: flow.connections,
        consumers: flow.consumers,
        unit_bytes: unit_bytes(flow.payload_bytes, flow.batch_bytes),
    }
}

impl<const ANSWERED: bool> Subject for BareServer<ANSWERED> {
    type Dialect = BareDialect<ANSWERED>;

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn dialect(&self) -> &BareDialect<ANSWERED> {
        &self.dialect
    }
}
