//! Samples to rates, and rates to a page.

use super::screen::{bytes, count, duration};
use super::*;

fn sample(wall_s: u64, records: u64, end: u64, uptime: f64) -> Sample {
    let counter = |name: &str, value: u64| format!("\"uringest_{name}\":{value}");
    let counters = [
        counter("records_accepted_total", records),
        counter("accepted_bytes_total", records * 100),
        counter("records_delivered_total", records * 2),
        counter("open_connections", 3),
    ];
    let sums = format!(
        "{{\"counters\":{{{}}},\"refusals\":{{\"bad_name\":{}}},\"copies\":{{\"retain\":{{\"count\":1,\"bytes\":{}}},\"straddle\":{{\"count\":0,\"bytes\":0}}}},\
         \"tick\":{{\"count\":1,\"sum_ns\":1,\"p50_ns\":1,\"p99_ns\":2000,\"p999_ns\":1}}}}",
        counters.join(","),
        records / 100,
        records * 50
    );
    let json = format!(
        "{{\"state\":\"RUNNING\",\"later\":1,\"io\":{{\"backend\":\"epoll\",\"tier\":0,\"because\":\"no ring\"}},\
         \"degraded\":[{{\"key\":\"io_uring_unavailable\",\"detail\":\"allow it\"}}],\"metrics\":{{\"wall_ns\":{},\"total\":{sums},\"shards\":[{sums}]}},\
         \"process\":{{\"uptime_seconds\":{uptime},\"resident_bytes\":1048576,\"cpu_seconds\":{},\"threads\":2,\"open_fds\":3}},\
         \"topics\":[{{\"name\":\"t\",\"partitions\":[{{\"log_start_offset\":0,\"log_end_offset\":{end},\"bytes\":7,\
         \"consumers\":[{{\"name\":\"a\",\"lag_records\":5,\"cause\":\"none\"}},{{\"name\":\"b\",\"lag_records\":9,\"cause\":\"credit\"}}]}},\
         {{\"log_start_offset\":0,\"log_end_offset\":0,\"bytes\":0,\"consumers\":[{{\"name\":\"a\",\"lag_records\":6,\"cause\":\"socket\"}}]}}]}}]}}",
        wall_s * 1_000_000_000,
        uptime / 2.0
    );
    serde_json::from_str(&json).expect("a sample")
}

#[test]
fn rates_are_differences_over_the_time_between() {
    let rates = Rates::between(&sample(10, 1_000, 1_000, 20.0), &sample(12, 5_000, 5_000, 22.0));
    assert!((rates.records_in_per_second - 2_000.0).abs() < 1e-6);
    assert!((rates.bytes_in_per_second - 200_000.0).abs() < 1e-6);
    assert!((rates.records_out_per_second - 4_000.0).abs() < 1e-6);
    assert!((rates.cpus - 0.5).abs() < 1e-6);
    assert!((rates.cpu_ns_per_record.expect("records") - 250_000.0).abs() < 1e-3);
    let retain = &rates.copies[0];
    assert_eq!(retain.reason, "retain");
    assert!((retain.share_of_bytes.expect("bytes") - 0.5).abs() < 1e-9);
    assert!((rates.refusals_per_second["bad_name"] - 20.0).abs() < 1e-9);
    let topic = &rates.topics[0];
    assert!((topic.records_in_per_second - 2_000.0).abs() < 1e-6);
    let lags: Vec<_> =
        topic.consumers.iter().map(|one| (one.name.as_str(), one.lag_records, one.cause.as_str())).collect();
    assert_eq!(lags, [("a", 11, "socket"), ("b", 9, "credit")], "summed, the slowest first, with its cause");
    let page = render(&rates, "h:1");
    for part in [
        "1 shards on epoll",
        "degraded: io_uring_unavailable: allow it",
        "RUNNING",
        "2,000",
        "250000 ns",
        "50.00 %",
        "socket",
        "bad_name",
        "3 connections",
        "tick p99 2 us",
    ] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
}

#[test]
fn a_server_started_anew_counts_from_zero_and_an_idle_one_has_no_shares() {
    let rates = Rates::between(&sample(10, 9_000, 9_000, 20.0), &sample(12, 1_000, 9_000, 1.0));
    assert!((rates.records_in_per_second - 500.0).abs() < 1e-6);
    let idle = Rates::between(&sample(10, 1_000, 1_000, 20.0), &sample(12, 1_000, 1_000, 22.0));
    assert_eq!(idle.cpu_ns_per_record, None);
    assert!(idle.copies.iter().all(|copy| copy.share_of_bytes.is_none()));
    assert!(idle.refusals_per_second.is_empty());
}

#[test]
fn numbers_are_written_for_people() {
    assert_eq!([count(0.0), count(999.4), count(1_234_567.0)], ["0", "999", "1,234,567"]);
    assert_eq!([bytes(12.0), bytes(1536.0), bytes(3.0 * 1024.0 * 1024.0)], ["12 B", "1.5 KiB", "3.0 MiB"]);
    assert_eq!(
        [duration(7.0), duration(66.0), duration(3_700.0), duration(90_000.0)],
        ["7s", "1m 6s", "1h 1m", "1d 1h"]
    );
}
