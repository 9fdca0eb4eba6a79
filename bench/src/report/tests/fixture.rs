//! Results of a machine that does not exist.

use crate::host::Machine;
use crate::outcome::{
    CrossingOutcome, DriftOutcome, FlowOutcome, IdleOutcome, Knee, Latency, LatencyOf, LimitOutcome, Outcome,
    Step, StormOutcome,
};
use crate::report::plan::Cell;
use crate::report::results::{Absent, Failed, Results, Run, Settings};
use crate::report::who::Who;
use crate::scenario::{Drive, Kind, Overrides};

const EVERYBODY: [Who; 6] =
    [Who::Uring, Who::Epoll, Who::Nats, Who::RedisPubsub, Who::LimitUring, Who::LimitEpoll];
const OURS: [Who; 2] = [Who::Uring, Who::Epoll];

/// All kinds of cells, everybody, a warning, a failure, and somebody who is absent.
pub(super) fn results() -> Results {
    let payload = |bytes: usize| Overrides { payload_bytes: Some(bytes), ..Overrides::default() };
    let memory = Overrides { kind: Some(Kind::Memory), ..payload(128) };
    let cells = vec![
        cell("ingest", "128 B", false, 3, &EVERYBODY, payload(128)),
        cell("ingest", "1 KiB", false, 3, &EVERYBODY, payload(1024)),
        cell("ingest", "128 B, memory", false, 2, &[Who::Uring, Who::LimitUring], memory),
        cell("latency", "50,000/s", false, 3, &EVERYBODY, payload(128)),
        cell("mix", "small and large", false, 2, &OURS, Overrides::default()),
        cell("ingest", "32 B", true, 3, &EVERYBODY, payload(32)),
        cell("ingest", "2 KiB", true, 3, &EVERYBODY, payload(2048)),
        cell("crossing", "1 to 1", false, 3, &OURS, payload(128)),
        cell("step", "p99 within 1 ms", false, 1, &EVERYBODY, payload(128)),
        cell("soak", "to 2 consumers", false, 1, &OURS, payload(128)),
        cell("storm", "5,000 handshakes", false, 1, &OURS, payload(128)),
        cell("idle", "0 and 1,000", false, 1, &OURS, Overrides::default()),
    ];
    let settings = Settings {
        only: Vec::new(),
        server_cpus: "0".into(),
        load_cpus: "1".into(),
        congestion_control: "cubic".into(),
        peers_congestion_control: "bbr".into(),
        server_settings: vec!["memory.bulk_regions=8".into()],
    };
    let mut results = Results::new(1_767_225_600, "0123456789ab", settings, cells);
    results.machine = machine();
    let why = "redis-server is not on the PATH: apt-get install redis-server";
    results.absent.push(Absent { who: Who::RedisPubsub, why: why.into() });
    let planned: Vec<_> = results.planned().collect();
    for (cell, who, round) in planned {
        if cell == 1 && who == Who::Nats && round > 0 {
            continue;
        }
        let outcome = outcome(&results.cells[cell], who, round);
        results.runs.push(Run { cell, who, round, outcome });
    }
    results.failed.push(Failed {
        cell: 1,
        who: Who::Nats,
        round: 1,
        why: "a connection of the load: reset".into(),
    });
    results
}

fn machine() -> Machine {
    Machine { kernel: "6.18.4".into(), cpu_model: "Some CPU".into(), cpus: 2, memory_bytes: 8 << 30 }
}

fn cell(scenario: &str, label: &str, sweep: bool, rounds: u16, who: &[Who], with: Overrides) -> Cell {
    Cell {
        scenario: scenario.into(),
        label: label.into(),
        sweep,
        with,
        seconds: 0.8,
        warm_up_seconds: 0.3,
        rounds,
        who: who.to_vec(),
    }
}

/// What somebody needs, in nanoseconds a record of 128 B.
fn base(who: Who) -> f64 {
    match who {
        Who::Uring => 24.0,
        Who::Epoll => 26.0,
        Who::LimitUring => 12.5,
        Who::LimitEpoll => 12.8,
        Who::Nats => 112.0,
        Who::RedisPubsub => 650.0,
        Who::RedisStreams => 1_373.0,
    }
}

fn drive(cell: &Cell) -> Drive {
    match &*cell.scenario {
        "latency" | "mix" => Drive::Open,
        "crossing" => Drive::Crossing,
        "step" => Drive::Step,
        "soak" => Drive::Soak,
        "idle" => Drive::Idle,
        "storm" => Drive::Storm,
        _ => Drive::Saturate,
    }
}

/// Rounds differ by a fiftieth.
pub(super) fn outcome(cell: &Cell, who: Who, round: u16) -> Outcome {
    let drive = drive(cell);
    let payload_bytes = cell.with.payload_bytes.unwrap_or(64);
    let wobble = [1.0, 0.98, 1.02][usize::from(round) % 3];
    let cpu = base(who) * (0.6 + 0.4 * payload_bytes as f64 / 128.0) * wobble;
    let open = drive == Drive::Open;
    let records_per_s = if open { 50_000.0 } else { (1e9 / cpu).round() };
    let consumers = usize::from(open || drive == Drive::Soak);
    let answers = who != Who::Nats || drive != Drive::Saturate;
    let load_saturated = who == Who::LimitUring && drive == Drive::Saturate;
    let copies = cell.with.kind == Some(Kind::Memory) && who == Who::LimitUring;
    let (subject, subject_version, io) = subject(who);
    let warning = load_saturated.then(|| "the load was the bottleneck (99 % of its thread)".to_owned());
    Outcome {
        scenario: cell.scenario.clone(),
        drive,
        subject: subject.into(),
        subject_version: subject_version.into(),
        io: io.into(),
        kind: "live".into(),
        ack: if subject == "uringest" { "received" } else { "none" }.into(),
        payload_bytes,
        connections: 1,
        consumers,
        rate_per_s: if open { 50_000 } else { 0 },
        seconds: 0.8,
        records_per_s,
        bytes_per_s: records_per_s * payload_bytes as f64,
        server_cpu_ns_per_record: cpu,
        server_cpu_ns_per_delivery: (consumers > 0).then_some(cpu),
        server_cpu_share: 0.99,
        load_cpu_share: 0.61,
        load_saturated,
        late_share: 0.000_5,
        latency_us: answers.then(|| latency(base(who) * wobble)),
        latency_of: Some(LatencyOf::Delivery),
        flows: flows(cell, who, wobble),
        steps: if drive == Drive::Step { steps(who) } else { Vec::new() },
        knee: (drive == Drive::Step).then(|| knee(who)),
        drift: (drive == Drive::Soak).then_some(DRIFT),
        crossing: (drive == Drive::Crossing).then(|| crossing(cpu)),
        idle: if drive == Drive::Idle { [0, 1_000].map(idle).to_vec() } else { Vec::new() },
        storm: (drive == Drive::Storm).then(storm),
        limit: copies.then(|| LimitOutcome { memcpy_ns_per_record: Some(4.0), ..LimitOutcome::default() }),
        warnings: warning.into_iter().collect(),
        machine: machine(),
        ..Outcome::default()
    }
}

fn subject(who: Who) -> (&'static str, &'static str, &'static str) {
    match who {
        Who::Uring => ("uringest", "0.1.0 (0123456789ab)", "uring"),
        Who::Epoll => ("uringest", "0.1.0 (0123456789ab)", "epoll"),
        Who::LimitUring => ("bare sink", "0123456789ab", "uring"),
        Who::LimitEpoll => ("bare sink", "0123456789ab", "epoll"),
        Who::Nats => ("nats", "2.10.1", "epoll"),
        Who::RedisPubsub | Who::RedisStreams => ("redis", "7.0.15", "epoll"),
    }
}

fn latency(base: f64) -> Latency {
    let p50 = base * 0.9;
    Latency {
        p50,
        p90: p50 * 1.6,
        p99: p50 * 3.0,
        p999: p50 * 9.0,
        max: p50 * 40.0,
        mean: p50 * 1.2,
        count: 40_000,
    }
}

/// Longer the further out: twice for each ten times rarer.
fn curve(p50: f64) -> Vec<(f64, f64)> {
    let shares = [0.0, 0.2, 0.4, 0.5, 0.7, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];
    shares.into_iter().map(|share: f64| (share, p50 * (1.0 - share).max(1e-5).powf(-0.301) * 0.8)).collect()
}

fn flows(cell: &Cell, who: Who, wobble: f64) -> Vec<FlowOutcome> {
    let names: &[&str] = match &*cell.scenario {
        "idle" => &[],
        "mix" => &["small", "large"],
        _ => &[""],
    };
    let one = |name: &&str| FlowOutcome {
        name: (*name).to_owned(),
        records: 40_000,
        latency_us: Some(latency(base(who) * wobble)),
        tail_over_mean: Some(2.5 * wobble),
        latency_curve_us: curve(base(who) * wobble),
        ..FlowOutcome::default()
    };
    names.iter().map(one).collect()
}

fn steps(who: Who) -> Vec<Step> {
    let one = |rate: u32| Step {
        rate_per_s: rate.into(),
        latency_us: latency(base(who) * (f64::from(rate) / 1e5).powi(2)),
        ..Step::default()
    };
    [50_000, 100_000, 200_000, 200_000, 400_000].into_iter().map(one).collect()
}

fn knee(who: Who) -> Knee {
    let within = if who == Who::Nats { 100_000 } else { 200_000 };
    Knee { bound_us: 1_000.0, within_per_s: Some(within), beyond_per_s: Some(within * 2) }
}

const DRIFT: DriftOutcome =
    DriftOutcome { server_rss: 0.0, records_per_s: -0.000_2, p99: 0.031, server_cpu_ns_per_record: -0.012 };

fn crossing(cpu: f64) -> CrossingOutcome {
    CrossingOutcome {
        own_server_cpu_ns_per_record: cpu / 1.5,
        cpu_ratio: 1.5,
        own_records_per_s: 1e6,
        own_latency_us: Some(latency(20.0)),
    }
}

fn storm() -> StormOutcome {
    StormOutcome {
        handshakes: 4_999,
        failed: 1,
        handshakes_per_s: 2_345.6,
        server_cpu_us_per_handshake: 181.2,
        calm_latency_us: Some(latency(20.0)),
        p99_over_calm: Some(1.25),
        ..StormOutcome::default()
    }
}

fn idle(connections: usize) -> IdleOutcome {
    IdleOutcome {
        connections,
        server_rss_bytes: (20 << 20) + connections as u64 * 900,
        rss_bytes_per_connection: (connections > 0).then_some(900.0),
        server_cpu_share: 0.000_03,
        seconds: 2.0,
    }
}
