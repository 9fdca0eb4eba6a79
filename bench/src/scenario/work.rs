//! A scenario with what was asked for on top: checked, and all that a run needs to know.

use serde::Serialize;

use super::{Ack, Drive, Flow, IN_FLIGHT_MAX, Kind, Overrides, Scenario, ScenarioError};

/// When producers are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AckPace {
    /// After this many batches of a connection ...
    pub every_batches: u32,
    /// ... or this long after the first that has none, in microseconds; 0: at once.
    pub every_us: u32,
}

impl AckPace {
    /// One acknowledgement for each batch.
    pub const EACH: AckPace = AckPace { every_batches: 1, every_us: 0 };
}

/// What one run does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Work {
    /// The scenario's name.
    pub scenario: String,
    /// How the load is applied.
    pub drive: Drive,
    /// Kind of the topics.
    pub kind: Kind,
    /// What an acknowledgement has to promise.
    pub ack: Option<Ack>,
    /// Batches of a connection that are on their way or unanswered, at most.
    pub in_flight: u64,
    /// Consumers begin with the oldest record kept, and not with the next one.
    pub from_start: bool,
    /// Memory of each topic (`log`: bytes kept on disk); 0 for the server's default.
    pub retention_bytes: u64,
    /// Shards of the server.
    pub shards: u16,
    /// When producers are acknowledged.
    pub acks: AckPace,
    /// Seconds measured.
    pub seconds: f64,
    /// Seconds before that.
    pub warm_up_seconds: f64,
    /// `step`: the 99th percentile that ends it.
    pub bound_us: f64,
    /// `step`: each rate over the one before.
    pub step_factor: f64,
    /// `soak`: intervals.
    pub intervals: u32,
    /// `idle`: numbers of connections.
    pub idle_connections: Vec<usize>,
    /// `storm`: connections that come beside the load ...
    pub handshakes: usize,
    /// ... so many at once.
    pub handshakes_at_once: usize,
    /// TLS on every connection, also without being asked for.
    pub tls: bool,
    /// The flows, a topic each; none for `idle`.
    pub flows: Vec<Flow>,
}

/// Largest payload and batch: what a server takes by default.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
const BATCH_BYTES_MAX: usize = 128 * 1024;
const CONNECTIONS_MAX: usize = 16_000;
/// Connections of a storm: as many as there are ports for, and threads that make them.
const HANDSHAKES_MAX: usize = 100_000;
const AT_ONCE_MAX: usize = 256;

impl Scenario {
    /// The scenario with the changes.
    ///
    /// # Errors
    /// The scenario has nothing that the change could be about, or the result cannot be run.
    pub fn work(&self, with: &Overrides) -> Result<Work, ScenarioError> {
        let invalid = |what: String| ScenarioError::Invalid(self.name.clone(), what);
        let mut work = Work {
            scenario: self.name.clone(),
            drive: self.drive,
            kind: with.kind.unwrap_or(self.kind),
            ack: with.ack.or(self.ack),
            in_flight: with.in_flight.unwrap_or(self.in_flight),
            from_start: false,
            retention_bytes: self.retention_bytes,
            shards: self.shards,
            acks: AckPace { every_batches: self.ack_every_batches, every_us: self.ack_every_us },
            seconds: with.seconds.unwrap_or(self.seconds),
            warm_up_seconds: self.warm_up_seconds.min(with.seconds.unwrap_or(self.seconds)),
            bound_us: with.bound_us.unwrap_or(self.bound_us),
            step_factor: self.step_factor,
            intervals: self.intervals,
            idle_connections: self.idle_connections.clone(),
            handshakes: with.handshakes.unwrap_or(self.handshakes),
            handshakes_at_once: self.handshakes_at_once,
            tls: self.tls,
            flows: self.flows.clone(),
        };
        if with.acked == Some(true) {
            work.acks = AckPace::EACH;
        }
        work.change_flows(with).map_err(invalid)?;
        work.check().map_err(invalid)?;
        Ok(work)
    }
}

impl Work {
    /// Connections, consumers and batches are changed in every flow; what tells flows apart only where there is one.
    fn change_flows(&mut self, with: &Overrides) -> Result<(), String> {
        let of_one_flow = with.payload_bytes.is_some() || with.rate_per_s.is_some();
        let about_flows = of_one_flow || with.batch_bytes.is_some() || with.consumers.is_some();
        if self.drive == Drive::Idle {
            if about_flows {
                return Err("nothing is sent: only the number of connections can be changed".into());
            }
            if let Some(connections) = with.connections {
                self.idle_connections = vec![0, connections];
                self.idle_connections.dedup();
            }
            return Ok(());
        }
        if of_one_flow && self.flows.len() > 1 {
            return Err(format!(
                "it has {} flows, and of which one --payload or --rate is meant cannot be said: change a copy of \
                 its file (uringest-bench scenarios {} prints it), and give that file's path",
                self.flows.len(),
                self.scenario
            ));
        }
        for flow in &mut self.flows {
            flow.payload_bytes = with.payload_bytes.unwrap_or(flow.payload_bytes);
            flow.batch_bytes = with.batch_bytes.unwrap_or(flow.batch_bytes);
            flow.connections = with.connections.unwrap_or(flow.connections);
            flow.consumers = with.consumers.unwrap_or(flow.consumers);
            flow.rate_per_s = with.rate_per_s.unwrap_or(flow.rate_per_s);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if !(0.05..=86_400.0).contains(&self.seconds) || !(0.0..=3_600.0).contains(&self.warm_up_seconds) {
            return Err("seconds are from 0.05 to 86400, warm_up_seconds from 0 to 3600".into());
        }
        if self.drive == Drive::Step && self.bound_us <= 0.0 {
            return Err("bound_us (--bound-us) has to be more than 0".into());
        }
        if (self.drive == Drive::Storm) != (1..=HANDSHAKES_MAX).contains(&self.handshakes) {
            return Err(format!(
                "handshakes (--handshakes) are 1 to {HANDSHAKES_MAX}, and of drive = \"storm\""
            ));
        }
        if self.handshakes_at_once > AT_ONCE_MAX {
            return Err(format!("at most {AT_ONCE_MAX} handshakes at once: each is a thread of the load"));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight) {
            return Err(format!("1 to {IN_FLIGHT_MAX} batches in flight"));
        }
        if u64::from(self.acks.every_batches) > self.in_flight {
            return Err(
                "an acknowledgement every so many batches is never reached with as few in flight".into()
            );
        }
        if self.drive.is_about_the_log() && self.kind != Kind::Log {
            return Err("this drive is about topics of kind log".into());
        }
        if self.kind != Kind::Log && self.ack.is_some_and(|ack| ack != Ack::Received) {
            return Err("only topics of kind log (--kind log) acknowledge more than received".into());
        }
        if self.drive == Drive::Catchup && self.flows.iter().any(|flow| flow.consumers == 0) {
            return Err("catching up is compared with consumers at the tail: at least one".into());
        }
        if self.drive == Drive::Crossing && self.shards != 2 {
            return Err("crossing needs shards = 2".into());
        }
        if self.idle_connections.iter().any(|&connections| connections > CONNECTIONS_MAX) {
            return Err(format!("at most {CONNECTIONS_MAX} connections"));
        }
        self.flows.iter().try_for_each(|flow| self.check_flow(flow))
    }

    fn check_flow(&self, flow: &Flow) -> Result<(), String> {
        // The first eight bytes of a payload carry the time at which it was sent.
        if !(8..=PAYLOAD_BYTES_MAX).contains(&flow.payload_bytes) {
            return Err(format!("a payload is 8 to {PAYLOAD_BYTES_MAX} bytes"));
        }
        if flow.batch_bytes > BATCH_BYTES_MAX {
            return Err(format!("a batch is at most {BATCH_BYTES_MAX} bytes"));
        }
        if flow.connections == 0 || flow.connections + flow.consumers > CONNECTIONS_MAX {
            return Err(format!(
                "a flow has at least one producer, and at most {CONNECTIONS_MAX} connections"
            ));
        }
        let timed = matches!(self.drive, Drive::Open | Drive::Step | Drive::Soak);
        if timed && flow.rate_per_s == 0 {
            return Err("this drive needs a rate (rate_per_s, --rate)".into());
        }
        let at_will =
            matches!(self.drive, Drive::Saturate | Drive::Crossing) || self.drive.is_about_the_log();
        if at_will && flow.rate_per_s != 0 {
            return Err("this drive sends as much as it can: it has no rate".into());
        }
        Ok(())
    }

    /// The flow that the outcome's flat fields are about; `None` for `idle`.
    #[must_use]
    pub fn main_flow(&self) -> Option<&Flow> {
        self.flows.first()
    }
}
