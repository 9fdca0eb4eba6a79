//! Scenarios: what is done and measured, as data.
//!
//! A scenario is a TOML file, `bench/scenarios/NAME.toml`; those are built into the program, and a path to a
//! file of one's own is accepted wherever a name is. Unknown keys are refused, with the names that are allowed.
//! A scenario together with what the command line changes of it ([`Overrides`]) makes a [`Work`], which is
//! checked: whoever has a `Work` need not look at scenarios again.

mod parse;
#[cfg(test)]
mod tests;
mod work;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uringest::proto::header::AckLevel;

pub use work::{AckPace, Work};

/// The scenarios built in, in the order in which they are listed and reported.
const BUILT_IN: [&str; 14] = [
    include_str!("../scenarios/ingest.toml"),
    include_str!("../scenarios/deliver.toml"),
    include_str!("../scenarios/fanout.toml"),
    include_str!("../scenarios/swarm.toml"),
    include_str!("../scenarios/latency.toml"),
    include_str!("../scenarios/mix.toml"),
    include_str!("../scenarios/step.toml"),
    include_str!("../scenarios/soak.toml"),
    include_str!("../scenarios/crossing.toml"),
    include_str!("../scenarios/idle.toml"),
    include_str!("../scenarios/storm.toml"),
    include_str!("../scenarios/durable.toml"),
    include_str!("../scenarios/catchup.toml"),
    include_str!("../scenarios/recovery.toml"),
];

/// How the load is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Drive {
    /// Every producer sends as much as its credit and its socket take.
    #[default]
    Saturate,
    /// One batch on each connection in turn, at the flow's rate (or, where that is 0, as fast as the load's
    /// thread writes), each by a write of its own. What is late is sent late and not made up by larger writes.
    Rounds,
    /// Batches at fixed times, whatever the server does: latency counts from the time a batch was due.
    Open,
    /// `open` at a rate that is raised until the 99th percentile passes the bound.
    Step,
    /// `open` for long, in intervals that are compared: what drifts.
    Soak,
    /// `saturate` on partitions of the other shard, beside the same on the connections' own.
    Crossing,
    /// Connections that have said hello and nothing more.
    Idle,
    /// `open`, by itself and while many connections come.
    Storm,
    /// `saturate` on a log, beside what the disk does by itself.
    Durable,
    /// `saturate` on a log with consumers at its end, then one that begins at its start.
    Catchup,
    /// A server's start on a log that was filled by `saturate`.
    Recovery,
}

impl Drive {
    /// Whether it is about files: it needs topics of kind `log`, a directory on a disk, and the server itself. Reports
    /// leave it out, as the disk is not part of the machine's name.
    #[must_use]
    pub const fn is_about_the_log(self) -> bool {
        matches!(self, Drive::Durable | Drive::Catchup | Drive::Recovery)
    }
}

/// What kind of topic takes the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sent from the memory it was received into, nothing kept.
    #[default]
    Live,
    /// Kept in the partition's ring.
    Memory,
    /// Written to files.
    Log,
}

impl Kind {
    /// As the server and the JSON spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Live => "live",
            Kind::Memory => "memory",
            Kind::Log => "log",
        }
    }
}

/// What producers ask an acknowledgement to promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// In the server's memory.
    Received,
    /// In the log's file.
    Written,
    /// On the disk.
    Durable,
}

impl Ack {
    /// As the server and the JSON spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.level().name()
    }

    /// As the protocol has it.
    #[must_use]
    pub const fn level(self) -> AckLevel {
        match self {
            Ack::Received => AckLevel::Received,
            Ack::Written => AckLevel::Written,
            Ack::Durable => AckLevel::Durable,
        }
    }
}

/// Producers and consumers of one topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Names it where a scenario has several.
    #[serde(default)]
    pub name: String,
    /// Bytes of a record's payload.
    pub payload_bytes: usize,
    /// Most bytes of a batch, header included; 0 for one record at a time.
    #[serde(default)]
    pub batch_bytes: usize,
    /// Producers, each on a connection of its own.
    pub connections: usize,
    /// Consumers, each on a connection of its own; each gets every record.
    #[serde(default)]
    pub consumers: usize,
    /// Records a second that are offered over all connections; 0 for as many as possible.
    #[serde(default)]
    pub rate_per_s: u64,
}

/// What the command line or a variant changes of a scenario. `None` leaves it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// Bytes of a record's payload (not `mix`).
    #[arg(long = "payload", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<usize>,
    /// Most bytes of a batch, header included; 0 for one record at a time.
    #[arg(long, alias = "batch", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_bytes: Option<usize>,
    /// Producers of each flow, each on a connection of its own (`idle`: idle connections).
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<usize>,
    /// Consumers of each flow, each on a connection of its own.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumers: Option<usize>,
    /// Records a second offered over all connections (not `mix`); 0 for as many as possible.
    #[arg(long = "rate", value_name = "PER_SECOND")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<u64>,
    /// Kind of the topic.
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// What an acknowledgement has to promise; written and durable are for topics of kind log.
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
    /// Batches of a connection that are on their way or unanswered, at most 64.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// One acknowledgement for every batch, at once, instead of acknowledgements far apart.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acked: Option<bool>,
    /// `storm`: connections that come beside the load.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<usize>,
    /// Seconds measured, after the warm-up.
    #[arg(long, value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// `step`: the 99th percentile that ends it, in microseconds.
    #[arg(long, value_name = "US")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_us: Option<f64>,
}

/// One line of what `report` runs of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// As it is named in tables and charts; unique in its scenario.
    pub label: String,
    /// What it changes.
    #[serde(default)]
    pub with: Overrides,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// As in `run NAME`.
    pub name: String,
    /// One sentence: what is done.
    pub description: String,
    /// How the load is applied.
    pub drive: Drive,
    /// Kind of the topics.
    #[serde(default)]
    pub kind: Kind,
    /// Seconds measured.
    pub seconds: f64,
    /// Seconds of the same load before the measured ones.
    pub warm_up_seconds: f64,
    /// Shards of the server.
    #[serde(default = "one")]
    pub shards: u16,
    /// What an acknowledgement has to promise; without it what the topic's kind has by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
    /// Batches of a connection that are on their way or unanswered, at most.
    #[serde(default = "most_in_flight")]
    pub in_flight: u64,
    /// Memory of each topic, which is what the server can promise its producers room in (`log`: bytes it keeps on
    /// disk); 0 for its default.
    #[serde(default)]
    pub retention_bytes: u64,
    /// An acknowledgement after this many batches of a connection ...
    pub ack_every_batches: u32,
    /// ... or this long after the first that has none.
    pub ack_every_us: u32,
    /// `step`: the 99th percentile that ends it, in microseconds.
    #[serde(default)]
    pub bound_us: f64,
    /// `step`: each rate is the one before times this.
    #[serde(default)]
    pub step_factor: f64,
    /// `soak`: intervals that are compared.
    #[serde(default)]
    pub intervals: u32,
    /// `idle`: how many connections, in the order in which they are measured.
    #[serde(default)]
    pub idle_connections: Vec<usize>,
    /// `storm`: connections that come beside the load ...
    #[serde(default)]
    pub handshakes: usize,
    /// ... so many at once.
    #[serde(default)]
    pub handshakes_at_once: usize,
    /// TLS on every connection, also without being asked for.
    #[serde(default)]
    pub tls: bool,
    /// The work, a topic each. The first is the one that the JSON's flat fields are about.
    #[serde(default, rename = "flow")]
    pub flows: Vec<Flow>,
    /// What `report` runs.
    #[serde(default, rename = "variant")]
    pub variants: Vec<Variant>,
}

const fn one() -> u16 {
    1
}

/// What the protocol allows, as an acknowledgement every so many batches has to be reached.
pub(crate) const IN_FLIGHT_MAX: u64 = 64;

const fn most_in_flight() -> u64 {
    IN_FLIGHT_MAX
}

/// Why there is no such scenario, or none that can be run.
#[derive(Debug)]
pub enum ScenarioError {
    /// Neither a built-in name nor a file.
    Unknown(String),
    /// The file cannot be read.
    Read(PathBuf, std::io::Error),
    /// It is not a scenario.
    Syntax(String, toml::de::Error),
    /// It is one, and what it says, or what was asked for on top, cannot be done.
    Invalid(String, String),
}

impl std::fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ScenarioError::Unknown(name) => write!(
                f,
                "there is no scenario {name}: take one of {}, or give the path of a scenario file",
                Scenario::names().join(", ")
            ),
            ScenarioError::Read(path, error) => write!(f, "{}: {error}", path.display()),
            ScenarioError::Syntax(name, error) => write!(f, "scenario {name}: {error}"),
            ScenarioError::Invalid(name, what) => write!(f, "scenario {name}: {what}"),
        }
    }
}

impl std::error::Error for ScenarioError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ScenarioError::Read(_, error) => Some(error),
            ScenarioError::Syntax(_, error) => Some(error),
            ScenarioError::Unknown(_) | ScenarioError::Invalid(..) => None,
        }
    }
}
