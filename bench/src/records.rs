//! What records of TLS cost by themselves: opened and sealed by the product's own layer, by rustls through its buffers,
//! and by the cipher alone; beside a copy of the same bytes.
//!
//! Everything is done in turns in one thread on the server's CPU, for the thread's own time, in memory that stays in
//! the cache, as what was just received does, and in places that differ from turn to turn. The cipher alone is the
//! floor: AES-128-GCM of aws-lc without record headers, types and state.

mod bare;
pub(crate) mod pair;
pub(crate) mod rig;
#[cfg(test)]
mod tests;

use serde::Serialize;
use uringest::tls::record::Implementation;
use uringest::tls::{Records, Suite};

use crate::failure::Failure;
use crate::host::{Machine, Placement};
use crate::outcome::COMMIT;
use crate::stats::{median, ratio_of_medians};

use bare::{Cipher, Copying};
use rig::Rig;

/// Content of the records that are measured.
const RECORD_BYTES: [usize; 3] = [1024, 4 * 1024, 16 * 1024];
/// Bytes in one turn: what a receive region holds.
const TURN_BYTES: usize = 256 * 1024;
/// Sessions of each, whose own buffers lie in other places, and turns of each session: some before any counts, and those
/// that do.
const SESSIONS: usize = 10;
const WARM_UPS: usize = 5;
const TURNS: usize = 40;
/// By so much more the places of each session's buffers are apart from those of the one before.
const APART_BYTES: usize = 1_040;
/// Seed of the intervals' resampling.
const SEED: u64 = 0x7265_636f;

/// Smallest pages, in which places are alike for processors that look at twelve bits of them.
const PAGE_BYTES: usize = 4096;

/// Where in its memory a turn's bytes begin: elsewhere within a page every turn. Some processors copy several times
/// slower where source and destination are almost alike in their lowest twelve bits, which is a matter of luck.
#[derive(Debug, Default)]
struct Places {
    stream: usize,
    out: usize,
}

impl Places {
    /// On to the next turn's. The strides have no factor in common with a page, so that all distances come.
    fn shift(&mut self) {
        self.stream = (self.stream + 1_237) % PAGE_BYTES;
        self.out = (self.out + 467) % PAGE_BYTES;
    }
}

/// One way of opening and sealing, a turn at a time.
trait Way {
    /// Nanoseconds for each KiB of opening and of sealing.
    fn turn(&mut self) -> [f64; 2];
}

/// What is done with records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Ciphertext in, plaintext out.
    #[default]
    Open,
    /// Plaintext in, ciphertext out.
    Seal,
    /// One after the other, as for a byte that is received and delivered.
    Both,
}

impl Direction {
    const ALL: [Direction; 3] = [Direction::Open, Direction::Seal, Direction::Both];

    fn of([open, seal]: [f64; 2], direction: Direction) -> f64 {
        match direction {
            Direction::Open => open,
            Direction::Seal => seal,
            Direction::Both => open + seal,
        }
    }
}

/// Records of one length, in one direction. Times are of CPU, medians of the turns.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RecordsRow {
    /// A record's content.
    pub record_bytes: usize,
    /// What is done.
    pub direction: Direction,
    /// By the product's own layer.
    pub own_ns_per_kib: f64,
    /// By rustls through its buffers.
    pub rustls_ns_per_kib: f64,
    /// The first over the second.
    pub ratio: f64,
    /// Where the ratio lies with 95 % confidence.
    pub interval: Option<(f64, f64)>,
    /// By the cipher alone.
    pub cipher_ns_per_kib: f64,
    /// Of a copy of the content, for each direction one.
    pub copy_ns_per_kib: f64,
}

/// What `uringest-bench records --json` prints.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RecordsOutcome {
    /// The cipher suite.
    pub suite: String,
    /// Whose cipher the product's own layer uses on this processor.
    pub own_by: String,
    /// Bytes opened or sealed in one turn.
    pub turn_bytes: usize,
    /// Turns of each.
    pub turns: usize,
    /// By length and direction.
    pub rows: Vec<RecordsRow>,
    /// Where it ran.
    pub server_cpus: String,
    /// Kernel, processor, memory.
    #[serde(flatten)]
    pub machine: Machine,
    /// The benchmark's commit.
    pub commit: String,
}

/// Measures all lengths.
///
/// # Errors
/// There are no certificates for a handshake, or the server's CPUs may not be used.
pub fn measure(placement: &Placement) -> Result<RecordsOutcome, Failure> {
    let cpus = placement.server_cpus.clone();
    let measured = std::thread::spawn(move || {
        let what = || "records cannot be measured on the server's CPUs".to_owned();
        cpus.pin().map_err(|source| Failure::Host { what: what(), source })?;
        let mut rows = Vec::new();
        let mut suite = Suite::Aes128Gcm;
        for bytes in RECORD_BYTES {
            let (name, found) = length(bytes, SESSIONS, TURNS)?;
            suite = name;
            rows.extend(found);
        }
        Ok::<_, Failure>((suite, rows))
    });
    let (suite, rows) = measured.join().expect("measuring does not panic")?;
    Ok(RecordsOutcome {
        suite: suite.name().into(),
        own_by: Implementation::of(suite).name().into(),
        turn_bytes: TURN_BYTES,
        turns: SESSIONS * TURNS,
        rows,
        server_cpus: placement.server_cpus.to_string(),
        machine: Machine::this(),
        commit: COMMIT.into(),
    })
}

/// All directions of one length, and the suite.
fn length(record_bytes: usize, sessions: usize, turns: usize) -> Result<(Suite, Vec<RecordsRow>), Failure> {
    let mut took: [Vec<[f64; 2]>; 4] = Default::default();
    let (mut suite, mut apart) = (Suite::Aes128Gcm, Vec::new());
    let (mut cipher, mut copying) = (Cipher::new(record_bytes), Copying::new(record_bytes));
    for session in 0..sessions {
        apart.push(vec![0_u8; APART_BYTES * (session + 1)]);
        let mut own = Rig::new(Records::Own, record_bytes)?;
        let mut rustls = Rig::new(Records::Rustls, record_bytes)?;
        suite = own.suite();
        let mut ways: [&mut dyn Way; 4] = [&mut own, &mut rustls, &mut cipher, &mut copying];
        for turn in 0..WARM_UPS + turns {
            for (way, took) in ways.iter_mut().zip(&mut took) {
                let once = way.turn();
                if turn >= WARM_UPS {
                    took.push(once);
                }
            }
        }
    }
    let rows = Direction::ALL.into_iter().map(|direction| row(record_bytes, direction, &took)).collect();
    Ok((suite, rows))
}

fn row(record_bytes: usize, direction: Direction, took: &[Vec<[f64; 2]>; 4]) -> RecordsRow {
    let of =
        |way: usize| -> Vec<f64> { took[way].iter().map(|turn| Direction::of(*turn, direction)).collect() };
    let middle = |way| median(&of(way)).unwrap_or(f64::NAN);
    let pairs: Vec<(f64, f64)> = of(0).into_iter().zip(of(1)).collect();
    let ratio = ratio_of_medians(&pairs, SEED);
    RecordsRow {
        record_bytes,
        direction,
        own_ns_per_kib: middle(0),
        rustls_ns_per_kib: middle(1),
        ratio: ratio.as_ref().map_or(f64::NAN, |ratio| ratio.ratio),
        interval: ratio.and_then(|ratio| ratio.interval),
        cipher_ns_per_kib: middle(2),
        copy_ns_per_kib: middle(3),
    }
}

/// Nanoseconds for each KiB of a turn that took so many.
fn per_kib(ns: u64) -> f64 {
    ns as f64 / (TURN_BYTES / 1024) as f64
}
