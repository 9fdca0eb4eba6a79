//! What opening and sealing cost, ours against rustls's buffers. Run by hand, optimised, alone on the machine:
//! `cargo test --release --lib tls::session::tests::measure -- --ignored --nocapture`.

use std::hint::black_box;
use std::time::Instant;

use super::*;

const KIB: usize = 1024;
const BATCH: usize = 64;
const ROUNDS: usize = 60;

/// Nanoseconds for each KiB: opening and sealing records with so many bytes, the median of the rounds.
fn measure(records: Records, bytes: usize) -> (f64, f64) {
    let mut wire = established([Records::Own, records]);
    let data = vec![0x5a; bytes];
    let mut out = vec![0; BATCH * bytes + 2 * PLAINTEXT_ROOM_BYTES];
    let mut sealed = vec![0; bytes + OVERHEAD_BYTES];
    let (mut opening, mut sealing) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let stream: Vec<u8> = (0..BATCH).flat_map(|_| wire.client.say(&data)).collect();
        let begun = Instant::now();
        let received = wire.server.session.receive(black_box(&stream), &mut out, NOW_S);
        opening.push(begun.elapsed().as_nanos());
        assert_eq!(received.produced, BATCH * bytes);

        let begun = Instant::now();
        for _ in 0..BATCH {
            let done = wire.server.session.transmit(black_box(&data), &mut sealed);
            assert_eq!(done.taken, bytes);
        }
        sealing.push(begun.elapsed().as_nanos());
    }
    let median = |mut times: Vec<u128>| {
        times.sort_unstable();
        times[times.len() / 2] as f64 / (BATCH * bytes) as f64 * KIB as f64
    };
    (median(opening), median(sealing))
}

#[test]
#[ignore = "a measurement: it needs an optimised build and a machine of its own"]
fn opening_and_sealing_against_rustls() {
    println!("bytes   open: own  rustls  ratio   seal: own  rustls  ratio   (ns/KiB)");
    for bytes in [KIB, 4 * KIB, 16 * KIB] {
        let (own, rustls) = (measure(Records::Own, bytes), measure(Records::Rustls, bytes));
        println!(
            "{bytes:5}   {:9.1} {:7.1} {:6.2}   {:9.1} {:7.1} {:6.2}",
            own.0,
            rustls.0,
            own.0 / rustls.0,
            own.1,
            rustls.1,
            own.1 / rustls.1
        );
        assert!(bytes < 16 * KIB || own.0 < rustls.0, "opening straight is cheaper than through buffers");
    }
}
