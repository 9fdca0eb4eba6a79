//! What opening and sealing cost, ours against rustls's buffers. Run by hand, optimised, alone on the machine:
//! `cargo test --release --lib tls::session::tests::measure -- --ignored --nocapture`.

use std::hint::black_box;
use std::time::Instant;

use super::*;
use crate::tls::record::Implementation;
use crate::tls::record::tests::implementations::by;

const KIB: usize = 1024;
/// Bytes in one turn: what a region holds.
const TURN_BYTES: usize = 256 * KIB;
const TURNS: usize = 400;

/// A connection, with memory for its records and their content.
struct Rig {
    wire: Wire,
    data: Vec<u8>,
    stream: Vec<u8>,
    out: Vec<u8>,
}

impl Rig {
    fn new(records: Records, bytes: usize) -> Rig {
        let room = TURN_BYTES / bytes * (bytes + OVERHEAD_BYTES) + 2 * PLAINTEXT_ROOM_BYTES;
        let wire = established([Records::Own, records]);
        Rig { wire, data: vec![0x5a; bytes], stream: Vec::with_capacity(room), out: vec![0; room] }
    }

    /// One turn: nanoseconds for each KiB of opening and of sealing.
    fn turn(&mut self) -> [f64; 2] {
        self.stream.clear();
        for _ in 0..TURN_BYTES / self.data.len() {
            self.stream.extend(self.wire.client.say(&self.data));
        }
        let begun = Instant::now();
        let received = self.wire.server.session.receive(black_box(&self.stream), &mut self.out, NOW_S);
        let opening = begun.elapsed();
        assert_eq!(received.produced, TURN_BYTES);

        let begun = Instant::now();
        let mut at = 0;
        for _ in 0..TURN_BYTES / self.data.len() {
            let room = &mut self.out[at..at + self.data.len() + OVERHEAD_BYTES];
            at += self.wire.server.session.transmit(black_box(&self.data), room).written;
        }
        let sealing = begun.elapsed();
        assert_eq!(at, TURN_BYTES / self.data.len() * (self.data.len() + OVERHEAD_BYTES));
        [opening, sealing].map(|time| time.as_nanos() as f64 / TURN_BYTES as f64 * KIB as f64)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
#[ignore = "a measurement: it needs an optimised build and a machine of its own"]
fn opening_and_sealing_against_rustls() {
    println!("ns/KiB, medians of {TURNS} turns by turns, and to rustls");
    println!("bytes        by aws-lc       by ring  rustls");
    for bytes in [KIB, 4 * KIB, 16 * KIB] {
        let own = |implementation| {
            let mut rig = None;
            by(implementation, || rig = Some(Rig::new(Records::Own, bytes)));
            rig.expect("made")
        };
        let (mut aws_lc, mut ring) = (own(Implementation::AwsLc), own(Implementation::Ring));
        let mut rustls = Rig::new(Records::Rustls, bytes);
        let turns: Vec<[[f64; 2]; 3]> = (0..TURNS)
            .map(|turn| match turn % 2 {
                0 => [aws_lc.turn(), ring.turn(), rustls.turn()],
                _ => {
                    let [third, second, first] = [rustls.turn(), ring.turn(), aws_lc.turn()];
                    [first, second, third]
                }
            })
            .collect();
        for (what, name) in ["open", "seal"].into_iter().enumerate() {
            let [first, second, reference] =
                [0, 1, 2].map(|who| median(turns.iter().map(|turn| turn[who][what]).collect()));
            let ratios = [0, 1].map(|who| {
                median(turns.iter().map(|turn| turn[who][what] / turn[2][what]).collect::<Vec<_>>())
            });
            println!(
                "{bytes:5} {name}  {first:7.1} {:5.2}  {second:7.1} {:5.2}  {reference:7.1}",
                ratios[0], ratios[1]
            );
            let chosen = usize::from(Implementation::of(Suite::Aes128Gcm) == Implementation::Ring);
            assert!(bytes < 16 * KIB || ratios[chosen] < 0.9, "straight is cheaper than through buffers");
        }
    }
}
