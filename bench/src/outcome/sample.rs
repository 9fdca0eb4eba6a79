//! An outcome for tests.

use super::Outcome;

/// Of a window of a bare program in which each record cost so much, and each delivery, where there are any.
pub(crate) fn sample(cpu_ns_per_record: f64, cpu_ns_per_delivery: Option<f64>) -> Outcome {
    Outcome {
        subject: "bare sink".into(),
        io: "epoll".into(),
        server_cpu_ns_per_record: cpu_ns_per_record,
        server_cpu_ns_per_delivery: cpu_ns_per_delivery,
        ..Outcome::default()
    }
}
