//! From what was measured to the outcome's fields.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Run;
use crate::engine::{FlowMeasured, Measured, Session, Window};
use crate::failure::Failure;
use crate::host::{CONGESTION_CONTROL, Machine};
use crate::outcome::{COMMIT, FlowOutcome, LatencyOf, Outcome};
use crate::scenario::{Flow, Work};
use crate::subject::Subject;

impl<S: Subject> Run<'_, S> {
    /// The outcome before anything was measured: what was done, with what, where.
    pub(super) fn blank(&self) -> Outcome {
        let (work, identity) = (self.work, self.subject.identity());
        let first = work.main_flow();
        let total = |of: fn(&Flow) -> usize| work.flows.iter().map(of).sum();
        Outcome {
            scenario: work.scenario.clone(),
            variant: None,
            drive: work.drive,
            subject: identity.name.clone(),
            subject_version: identity.version.clone(),
            io: identity.io.clone(),
            tls: None,
            kind: work.kind.name().into(),
            ack: identity.ack.clone(),
            ack_every_batches: work.acks.every_batches,
            ack_every_us: work.acks.every_us,
            shards: work.shards,
            payload_bytes: first.map_or(0, |flow| flow.payload_bytes),
            batch_bytes: first.map_or(0, |flow| flow.batch_bytes),
            connections: total(|flow| flow.connections),
            consumers: total(|flow| flow.consumers),
            rate_per_s: work.flows.iter().map(|flow| flow.rate_per_s).sum(),
            seconds: 0.0,
            warm_up_seconds: work.warm_up_seconds,
            records: 0,
            delivered: 0,
            missed: 0,
            unacknowledged: 0,
            undelivered: 0,
            refused_batches: 0,
            records_per_s: 0.0,
            delivered_per_s: 0.0,
            bytes_per_s: 0.0,
            server_cpu_ns: 0,
            server_cpu_ns_per_record: 0.0,
            server_cpu_ns_per_delivery: None,
            server_cpu_share: 0.0,
            load_cpu_share: 0.0,
            load_saturated: false,
            late_share: 0.0,
            blocked_share: 0.0,
            copied_bytes_ratio: None,
            fairness: 1.0,
            server_rss_bytes: 0,
            latency_us: None,
            latency_of: None,
            flows: Vec::new(),
            steps: Vec::new(),
            knee: None,
            intervals: Vec::new(),
            drift: None,
            crossing: None,
            idle: Vec::new(),
            storm: None,
            durable: None,
            catchup: None,
            recovery: None,
            limit: None,
            warnings: identity.warnings.clone(),
            congestion_control: CONGESTION_CONTROL.into(),
            server_cpus: self.placement.server_cpus.to_string(),
            load_cpus: self.placement.load_cpus.to_string(),
            machine: Machine::this(),
            unix_time_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            commit: COMMIT.into(),
        }
    }

    /// The outcome of one window, with the memory that the server has now.
    pub(super) fn outcome(&self, measured: &Measured) -> Result<Outcome, Failure> {
        let mut outcome = self.blank();
        let seconds = measured.elapsed_ns as f64 / 1e9;
        let flows = self.work.flows.iter().zip(&measured.flows);
        outcome.flows = flows.map(|(flow, measured)| flow_outcome(flow, measured)).collect();
        let payload: f64 =
            outcome.flows.iter().map(|flow| flow.records as f64 * flow.payload_bytes as f64).sum();
        outcome.records = outcome.flows.iter().map(|flow| flow.records).sum();
        outcome.delivered = outcome.flows.iter().map(|flow| flow.delivered).sum();
        outcome.missed = measured.missed;
        outcome.seconds = seconds;
        outcome.records_per_s = outcome.records as f64 / seconds;
        outcome.delivered_per_s = outcome.delivered as f64 / seconds;
        outcome.bytes_per_s = payload / seconds;
        outcome.server_cpu_ns = measured.server_cpu_ns;
        outcome.server_cpu_ns_per_record = measured.cpu_ns_per_record();
        outcome.server_cpu_ns_per_delivery =
            (outcome.consumers > 0).then(|| measured.server_cpu_ns as f64 / outcome.delivered.max(1) as f64);
        outcome.server_cpu_share = measured.server_cpu_ns as f64 / measured.elapsed_ns as f64;
        outcome.load_cpu_share = measured.load_cpu_share();
        let chances = measured.chances.max(1) as f64;
        outcome.late_share = measured.late as f64 / chances;
        outcome.blocked_share = measured.blocked as f64 / chances;
        outcome.server_rss_bytes = self.subject.process().rss_bytes()?;
        if let Some(first) = outcome.flows.first() {
            outcome.fairness = first.fairness;
            outcome.latency_us = first.latency_us;
            outcome.latency_of = first.latency_of;
        }
        Ok(outcome)
    }

    /// Settles the only session of a server, and says how many bytes were copied in it.
    pub(super) fn finish(&self, session: Session<S::Dialect>, outcome: &mut Outcome) -> Result<(), Failure> {
        let sent_bytes = session.sent_bytes();
        outcome.settle(session.settle()?);
        outcome.copied_bytes_ratio = self.copied_ratio(0, sent_bytes)?;
        Ok(())
    }

    /// Bytes copied for each byte sent, since `before` was copied.
    pub(super) fn copied_ratio(&self, before: u64, sent_bytes: u64) -> Result<Option<f64>, Failure> {
        let copied = self.subject.copied_bytes()?;
        Ok(copied.map(|copied| copied.saturating_sub(before) as f64 / sent_bytes.max(1) as f64))
    }
}

fn flow_outcome(flow: &Flow, measured: &FlowMeasured) -> FlowOutcome {
    let (latencies, of) = measured.latencies();
    let latency = latencies.latency();
    let most = measured.units.iter().copied().max().unwrap_or(0).max(1);
    let least = measured.units.iter().copied().min().unwrap_or(0);
    FlowOutcome {
        name: flow.name.clone(),
        payload_bytes: flow.payload_bytes,
        batch_bytes: flow.batch_bytes,
        batch_records: measured.unit_records,
        connections: flow.connections,
        consumers: flow.consumers,
        rate_per_s: flow.rate_per_s,
        records: measured.records,
        delivered: measured.delivered,
        fairness: least as f64 / most as f64,
        latency_us: latency,
        latency_of: latency.map(|_| of),
        tail_over_mean: latency.map(|latency| latency.p99 / latency.mean.max(1e-9)),
        latency_curve_us: latencies.curve(),
    }
}

impl FlowMeasured {
    /// Those of deliveries where there are any.
    pub(super) fn latencies(&self) -> (&crate::histogram::Histogram, LatencyOf) {
        if self.delivery.count() > 0 {
            (&self.delivery, LatencyOf::Delivery)
        } else {
            (&self.ack, LatencyOf::Ack)
        }
    }
}

impl Measured {
    pub(super) fn records(&self) -> u64 {
        self.flows.iter().map(|flow| flow.records).sum()
    }

    pub(super) fn records_per_s(&self) -> f64 {
        self.records() as f64 * 1e9 / self.elapsed_ns.max(1) as f64
    }

    pub(super) fn cpu_ns_per_record(&self) -> f64 {
        self.server_cpu_ns as f64 / self.records().max(1) as f64
    }

    pub(super) fn load_cpu_share(&self) -> f64 {
        (self.busy_ns as f64 / self.elapsed_ns.max(1) as f64).min(1.0)
    }
}

impl Work {
    /// The rates of the flows.
    pub(super) fn rates(&self) -> Vec<u64> {
        self.flows.iter().map(|flow| flow.rate_per_s).collect()
    }

    /// The window of a work that has one.
    pub(super) fn window(&self) -> Window {
        Window {
            warm_up: Duration::from_secs_f64(self.warm_up_seconds),
            length: Duration::from_secs_f64(self.seconds),
            rates_per_s: self.rates(),
            rests: false,
        }
    }
}

impl Window {
    pub(super) fn whole(&self) -> Duration {
        self.warm_up + self.length
    }
}
