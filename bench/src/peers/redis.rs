//! `redis-server`, with persistence off: publish and subscribe, or streams in memory.

use std::path::Path;
use std::process::Command;

use super::shared::{Ground, warnings};
use crate::dialect::redis::{RedisDialect, RedisWay};
use crate::failure::Failure;
use crate::host::Placement;
use crate::scenario::Work;
use crate::subject::{Identity, Process, Subject};

/// Connections at most: more than any scenario makes.
const CLIENTS_MAX: &str = "20000";

/// See the module.
#[derive(Debug)]
pub(super) struct Redis {
    process: Process,
    identity: Identity,
    dialect: RedisDialect,
}

impl Redis {
    pub(super) fn start(
        program: &Path,
        way: RedisWay,
        work: &Work,
        placement: &Placement,
    ) -> Result<Redis, Failure> {
        let ground = Ground::new("redis-server")?;
        let mut command = Command::new(program);
        command.arg("-").args(["--bind", &ground.address.ip().to_string()]);
        // Every address of the loopback is a client's, and the port is open to no other.
        command.args(["--protected-mode", "no"]);
        command.args(["--port", &ground.address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.arg("--dir").arg(&ground.scratch).args(["--loglevel", "warning"]);
        command.args(["--maxclients", CLIENTS_MAX, "--tcp-backlog", "4096", "--timeout", "0"]);
        // No consumer is dropped for what it has pending.
        command.args(["--client-output-buffer-limit", "pubsub", "0", "0", "0"]);
        let mut process = ground.start(&mut command, placement)?;
        let dialect = RedisDialect::new(ground.address, way, &work.flows);
        let version = ground.await_answer(&mut process, || dialect.version())?;
        let (name, io) = match way {
            RedisWay::PubSub => ("Redis pub/sub", "stores nothing"),
            RedisWay::Streams => ("Redis Streams", "in memory, persistence off"),
        };
        let identity = Identity {
            name: name.into(),
            version,
            ack: "received".into(),
            io: io.into(),
            warnings: warnings(work, way == RedisWay::Streams),
        };
        Ok(Redis { process, identity, dialect })
    }
}

impl Subject for Redis {
    type Dialect = RedisDialect;

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn dialect(&self) -> &RedisDialect {
        &self.dialect
    }
}
