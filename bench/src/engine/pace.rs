//! When a connection sends.
//!
//! Times are fixed before the window begins: batch `k` of a flow is due at `begin + k / rate`, and belongs to
//! connection `k mod n`. What is late stays due: the next batch's time does not move, and its latency counts from it.
//! So a server that stalls is charged for every batch that waited, and not for one (no coordinated omission); and
//! what was due before the window's end is sent, waited for and counted also after it.

/// When what is not due any more is due.
pub(super) const NEVER: u64 = u64::MAX;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// As much as is allowed, as many batches to a write as fit.
    AtWill,
    /// One batch each turn, connection after connection.
    Turn,
    /// Batches at their times, a write each.
    Timed {
        begin_ns: f64,
        /// Between two batches of the flow.
        interval_ns: f64,
        /// Connections that take turns.
        connections: usize,
        /// Nothing is due from here on.
        end_ns: u64,
    },
}

impl Pace {
    /// For a flow of this many records a second, in batches of `unit_records`, over `connections`, from the first of
    /// these times to before the second.
    pub(super) fn timed(
        (begin_ns, end_ns): (u64, u64),
        rate_per_s: u64,
        unit_records: u64,
        connections: usize,
    ) -> Pace {
        let interval_ns = 1e9 * unit_records as f64 / rate_per_s as f64;
        Pace::Timed { begin_ns: begin_ns as f64, interval_ns, connections, end_ns }
    }

    /// When batch `turn` (from 0) of connection `index` is due; [`NEVER`] beyond the end, `None` where there are no
    /// times.
    #[inline]
    pub(super) fn due_ns(&self, index: usize, turn: u64) -> Option<u64> {
        let Pace::Timed { begin_ns, interval_ns, connections, end_ns } = *self else { return None };
        let number = turn * connections as u64 + index as u64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // ns since the host started: 2^53 is 104 days
        let due = (begin_ns + number as f64 * interval_ns) as u64;
        Some(if due < end_ns { due } else { NEVER })
    }

    /// Whether batches have times.
    pub(super) fn is_timed(&self) -> bool {
        matches!(self, Pace::Timed { .. })
    }
}
