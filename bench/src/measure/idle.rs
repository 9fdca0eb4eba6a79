//! Connections that do nothing: what each costs in memory, and all of them in CPU time.

use std::time::{Duration, Instant};

use super::Run;
use crate::dialect::Dialect;
use crate::failure::Failure;
use crate::outcome::{IdleOutcome, Outcome};
use crate::progress::Progress;
use crate::subject::Subject;

pub(super) fn measure<S: Subject>(run: &Run<S>, progress: &mut Progress) -> Result<Outcome, Failure> {
    let (work, process) = (run.work, run.subject.process());
    let mut sockets = Vec::new();
    let mut outcome = run.blank();
    for &connections in &work.idle_connections {
        progress.say(&format!("{connections} connections"));
        while sockets.len() < connections {
            sockets.push(run.subject.dialect().idler(sockets.len()).map_err(Failure::Load)?);
        }
        sockets.truncate(connections);
        std::thread::sleep(Duration::from_secs_f64(work.warm_up_seconds));
        let (cpu, begun) = (process.cpu_ns(), Instant::now());
        std::thread::sleep(Duration::from_secs_f64(work.seconds));
        let (cpu_ns, seconds) = (process.cpu_ns() - cpu, begun.elapsed().as_secs_f64());
        let server_rss_bytes = process.rss_bytes()?;
        let first: Option<&IdleOutcome> = outcome.idle.first();
        let rss_bytes_per_connection = first.filter(|first| connections > first.connections).map(|first| {
            (server_rss_bytes as f64 - first.server_rss_bytes as f64)
                / (connections - first.connections) as f64
        });
        outcome.seconds = seconds;
        outcome.connections = connections;
        outcome.server_cpu_ns = cpu_ns;
        outcome.server_rss_bytes = server_rss_bytes;
        outcome.server_cpu_share = cpu_ns as f64 / (seconds * 1e9);
        outcome.idle.push(IdleOutcome {
            connections,
            server_rss_bytes,
            rss_bytes_per_connection,
            server_cpu_share: outcome.server_cpu_share,
            seconds,
        });
    }
    Ok(outcome)
}
