use super::*;

#[test]
fn every_way_does_its_work_and_costs_something() {
    for bytes in RECORD_BYTES {
        let (suite, rows) = length(bytes, 2, 3).expect("a handshake");
        assert_eq!(suite, Suite::Aes128Gcm);
        assert_eq!(rows.len(), 3);
        for row in &rows {
            let all = [row.own_ns_per_kib, row.rustls_ns_per_kib, row.cipher_ns_per_kib, row.copy_ns_per_kib];
            assert!(all.iter().all(|ns| *ns > 0.0), "{row:?}");
            assert!((row.ratio - row.own_ns_per_kib / row.rustls_ns_per_kib).abs() < 1e-9, "{row:?}");
            assert!(row.interval.is_some_and(|(low, high)| low <= row.ratio && row.ratio <= high), "{row:?}");
        }
    }
}
