//! `nats-server`, its core: what is published goes to those who are subscribed, and nothing is stored.

use std::path::Path;
use std::process::Command;

use super::shared::{Ground, warnings};
use crate::dialect::nats::NatsDialect;
use crate::failure::Failure;
use crate::host::Placement;
use crate::scenario::Work;
use crate::subject::{Identity, Process, Subject};

/// See the module.
#[derive(Debug)]
pub(super) struct Nats {
    process: Process,
    identity: Identity,
    dialect: NatsDialect,
}

/// A consumer may have 1 GiB pending and a minute to take some of it before it is dropped, instead of 64 MiB and
/// ten seconds; connections are not counted. No `JetStream`, no monitoring, no routes.
fn configuration(ground: &Ground) -> String {
    format!(
        "listen: \"{}\"\nserver_name: \"uringest-bench\"\nmax_pending: 1073741824\nwrite_deadline: \"60s\"\n\
         max_connections: 1000000\nmax_payload: 1048576\nping_interval: \"10m\"\nlame_duck_duration: \"30s\"\n",
        ground.address
    )
}

impl Nats {
    pub(super) fn start(program: &Path, work: &Work, placement: &Placement) -> Result<Nats, Failure> {
        let ground = Ground::new("nats-server")?;
        let file = ground.scratch.join("nats.conf");
        std::fs::write(&file, configuration(&ground)).map_err(|source| Failure::Host {
            what: format!("{} cannot be written", file.display()),
            source,
        })?;
        let mut process = ground.start(Command::new(program).arg("-c").arg(&file), placement)?;
        let dialect = NatsDialect::new(ground.address, &work.flows);
        let version = ground.await_answer(&mut process, || dialect.version())?;
        let identity = Identity {
            name: "NATS".into(),
            version,
            ack: "received".into(),
            io: "core: stores nothing".into(),
            warnings: warnings(work, false),
        };
        Ok(Nats { process, identity, dialect })
    }
}

impl Subject for Nats {
    type Dialect = NatsDialect;

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn dialect(&self) -> &NatsDialect {
        &self.dialect
    }
}
