use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::buf::CopyReason;
use crate::lifecycle::State;
use crate::proto::code::Code;

/// A family of a page that was read back.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    has_help: bool,
    /// By sample name and labels.
    samples: BTreeMap<(String, Vec<(String, String)>), String>,
}

/// Reads labels `a="b",c="d"`, undoing the escapes.
fn labels(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").expect("a label has a quoted value");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "label {name:?}");
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().expect("a label's value ends") {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().expect("an escape has a letter").1 {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    c => panic!("escape {c:?}"),
                }),
                (_, c) => value.push(c),
            }
        };
        out.push((name.to_owned(), value));
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
    out
}

/// Which endings a kind's samples have: OpenMetrics 1.0, section "Metric Types".
fn endings(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total"],
        "gauge" | "stateset" => &[""],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_count", "_sum"],
        other => panic!("kind {other}"),
    }
}

/// Checks a page against the rules of the text format as it reads it.
fn read_page(page: &str) -> BTreeMap<String, Family> {
    assert!(page.ends_with("\n# EOF\n"), "the page ends with EOF");
    assert_eq!(page.matches("# EOF").count(), 1);
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines() {
        if line == "# EOF" {
            continue;
        }
        if let Some(about) = line.strip_prefix("# ") {
            let mut words = about.splitn(3, ' ');
            let (what, name, text) = (words.next(), words.next(), words.next());
            let (name, text) = (name.expect("a name").to_owned(), text.expect("a text"));
            match what {
                Some("TYPE") => {
                    current = name.clone();
                    let family = Family { kind: text.to_owned(), ..Family::default() };
                    assert!(families.insert(name, family).is_none(), "{current} is there twice");
                }
                Some("UNIT") => {
                    assert!(name == current && name.ends_with(&format!("_{text}")), "{line}");
                }
                Some("HELP") => {
                    assert!(name == current && text.ends_with('.'), "{line}");
                    families.get_mut(&name).expect("TYPE comes first").has_help = true;
                }
                other => panic!("{other:?} in {line:?}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        let (name, label_text) = series
            .split_once('{')
            .map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').expect("labels end")));
        let family = families.get_mut(&current).expect("TYPE comes before samples");
        let ending = name.strip_prefix(current.as_str()).unwrap_or_else(|| panic!("{name} in {current}"));
        assert!(endings(&family.kind).contains(&ending), "{name} of a {}", family.kind);
        assert!(value.parse::<f64>().is_ok_and(|value| value >= 0.0), "{line}");
        let key = (name.to_owned(), labels(label_text));
        assert!(family.samples.insert(key, value.to_owned()).is_none(), "{series} is there twice");
    }
    families
}

fn value(families: &BTreeMap<String, Family>, family: &str, sample: &str, wanted: &[(&str, &str)]) -> String {
    let wanted = wanted.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let samples = &families.get(family).unwrap_or_else(|| panic!("no family {family}")).samples;
    samples.get(&(sample.to_owned(), wanted)).unwrap_or_else(|| panic!("no {sample} in {samples:?}")).clone()
}

fn pages() -> Vec<Arc<CounterPage>> {
    let pages: Vec<Arc<CounterPage>> = (0..2).map(|_| Arc::new(CounterPage::new())).collect();
    pages[0].add(Counter::RecordsAccepted, 5);
    pages[1].add(Counter::RecordsAccepted, 7);
    pages[1].add(Counter::RecordsAccepted, 1);
    pages[0].add(Counter::BusyNs, 1_500_000_001);
    pages[0].set(Counter::ConnectionsOpen, 9);
    pages[0].sub(Counter::ConnectionsOpen, 2);
    pages[1].refused(Code::BadMagic);
    pages[1].refused(Code::NoSuchTopicNow);
    pages[0].refused(Code::BadMagic);
    pages[0].set_copies(CopyReason::Moved, 3, 4096);
    pages[1].tick_took(1024);
    pages[1].tick_took(1025);
    pages[1].tick_took(u64::MAX >> 1);
    pages
}

#[test]
fn the_page_is_open_metrics() {
    let extra = ServerGauges {
        version: "1.0 \"x\" \\ \n".to_owned(),
        io: "uring-t2".to_owned(),
        shards_io: vec![("uring", 2), ("epoll", 0)],
        state: State::Draining,
        topics: 3,
        partitions: 12,
        log_files_bytes: 1 << 30,
        degraded: vec!["no_huge_pages"],
        tls: TlsGauges {
            // The same pair may be listed twice.
            expiries: vec![("a.example".to_owned(), "/s.pem".to_owned(), 1_924_905_600); 2],
            reloads: 2,
            failures: 1,
        },
        process: ProcessGauges { cpu_seconds: 1.25, ..ProcessGauges::default() },
    };
    let families = read_page(&render(&pages(), &extra));
    assert!(families.values().all(|family| family.has_help));
    let read = |family: &str, sample: &str, labels: &[(&str, &str)]| value(&families, family, sample, labels);
    let records = "uringest_records_accepted";
    assert_eq!(read(records, "uringest_records_accepted_total", &[("shard", "0")]), "5");
    assert_eq!(read(records, "uringest_records_accepted_total", &[("shard", "1")]), "8");
    assert_eq!(read("uringest_log_files_bytes", "uringest_log_files_bytes", &[]), "1073741824");
    let busy = read("uringest_busy_seconds", "uringest_busy_seconds_total", &[("shard", "0")]);
    assert_eq!(busy, "1.500000001");
    assert_eq!(read("uringest_open_connections", "uringest_open_connections", &[("shard", "0")]), "7");
    for (shard, code, expected) in
        [("0", "bad_magic", "1"), ("1", "no_such_topic_now", "1"), ("1", "idle_timeout", "0")]
    {
        let labels = [("shard", shard), ("code", code)];
        assert_eq!(read("uringest_refusals", "uringest_refusals_total", &labels), expected);
    }
    let moved = [("shard", "0"), ("reason", "moved")];
    assert_eq!(read("uringest_copies", "uringest_copies_total", &moved), "3");
    assert_eq!(read("uringest_copied_bytes", "uringest_copied_bytes_total", &moved), "4096");
    let tick = "uringest_tick_seconds";
    for (le, expected) in [("0.000001024", "1"), ("0.000002048", "2"), ("4.294967296", "2"), ("+Inf", "3")] {
        let labels = [("shard", "1"), ("le", le)];
        assert_eq!(read(tick, "uringest_tick_seconds_bucket", &labels), expected, "{le}");
    }
    assert_eq!(read(tick, "uringest_tick_seconds_count", &[("shard", "1")]), "3");
    let build = [("version", "1.0 \"x\" \\ \n"), ("io", "uring-t2")];
    assert_eq!(read("uringest_build", "uringest_build_info", &build), "1");
    for (shard, backend, tier) in [("0", "uring", "2"), ("1", "epoll", "0")] {
        let labels = [("shard", shard), ("backend", backend), ("tier", tier)];
        assert_eq!(read("uringest_io", "uringest_io_info", &labels), "1");
    }
    assert_eq!(read("uringest_state", "uringest_state", &[("uringest_state", "draining")]), "1");
    assert_eq!(read("uringest_state", "uringest_state", &[("uringest_state", "running")]), "0");
    assert_eq!(read("uringest_degraded", "uringest_degraded", &[("what", "no_huge_pages")]), "1");
    assert_eq!(read("uringest_partitions", "uringest_partitions", &[]), "12");
    let expiry = "uringest_tls_certificate_expiry_timestamp_seconds";
    assert_eq!(read(expiry, expiry, &[("name", "a.example"), ("file", "/s.pem")]), "1924905600");
    assert_eq!(read("uringest_tls_reloads", "uringest_tls_reloads_total", &[]), "2");
    assert_eq!(read("uringest_tls_reload_failures", "uringest_tls_reload_failures_total", &[]), "1");
    assert_eq!(read("process_cpu_seconds", "process_cpu_seconds_total", &[]), "1.25");
}

#[test]
fn buckets_are_cumulative_and_each_shard_has_every_series() {
    let families = read_page(&render(&pages(), &ServerGauges::default()));
    let series = |family: &str, shard: &str| {
        let is = |labels: &[(String, String)]| labels[0] == ("shard".to_owned(), shard.to_owned());
        families[family].samples.keys().filter(|(_, labels)| is(labels)).count()
    };
    for shard in ["0", "1"] {
        for counter in Counter::ALL {
            assert_eq!(series(counter.family(), shard), 1, "{counter:?}");
        }
        assert_eq!(series("uringest_refusals", shard), Code::ALL.len());
        assert_eq!(series("uringest_copied_bytes", shard), COPY_REASONS.len());
    }
    for page in pages() {
        let ends: Vec<(u64, u64)> = page.tick().read().cumulative().collect();
        assert!(ends.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
    }
}

#[test]
fn names_follow_the_conventions() {
    let mut seen = BTreeSet::new();
    for &counter in Counter::ALL {
        let family = counter.family();
        assert!(seen.insert(family), "{family} is there twice");
        assert!(family.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{family}");
        assert!(!family.ends_with("_total"), "{family}: the sample has the ending");
        assert_eq!(counter.unit() == Unit::Bytes, family.ends_with("_bytes"), "{family}");
        assert_eq!(counter.unit() == Unit::Seconds, family.ends_with("_seconds"), "{family}");
        assert_eq!(counter.kind() == Kind::Counter, counter.sample().ends_with("_total"), "{family}");
    }
}

#[test]
fn every_copy_reason_has_its_place() {
    for (index, (reason, name)) in COPY_REASONS.into_iter().enumerate() {
        assert_eq!(reason as usize, index, "{name}");
        assert_eq!(format!("{reason:?}").to_lowercase(), name);
    }
}

#[test]
fn every_code_is_counted_by_itself() {
    for &code in Code::ALL {
        let page = CounterPage::new();
        page.refused(code);
        let counted: Vec<&Code> = Code::ALL.iter().filter(|&&other| page.read_refused(other) > 0).collect();
        assert_eq!(counted, [&code]);
    }
}

#[test]
fn a_snapshot_sums_the_shards_and_survives_json() {
    let pages = pages();
    let snapshot = Snapshot::take(&pages, 17);
    assert_eq!(snapshot.shards.len(), 2);
    assert_eq!(snapshot.total.value(Counter::RecordsAccepted), 13);
    assert_eq!(snapshot.shards[1].value(Counter::RecordsAccepted), 8);
    assert_eq!(snapshot.total.counters["uringest_records_accepted_total"], 13);
    assert_eq!(snapshot.total.refusals["bad_magic"], 2);
    assert_eq!(snapshot.shards[0].refusals.len(), 1, "only what happened");
    assert_eq!(snapshot.total.copies["moved"], Copies { count: 3, bytes: 4096 });
    assert_eq!((snapshot.total.tick.count, snapshot.total.tick.p50_ns), (3, 1280));
    assert_eq!(snapshot.total.tick.p99_ns, 1 << 32, "beyond the last bucket");
    let json = serde_json::to_string(&snapshot).expect("serialises");
    assert_eq!(serde_json::from_str::<Snapshot>(&json).expect("reads back"), snapshot);
}

#[test]
fn the_process_is_read_from_proc() {
    let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 5 0 1000 1 2 3";
    let status = "Name:\ta\nVmHWM:\t 9999 kB\nVmRSS:\t    2048 kB\n";
    let gauges = process::parse(stat, status, "60.50 100.00\n");
    let expected = ProcessGauges {
        uptime_seconds: 50.5,
        resident_bytes: 2048 * 1024,
        cpu_seconds: 4.0,
        threads: 5,
        open_fds: 0,
    };
    assert_eq!(gauges, expected);
    assert_eq!(process::parse("", "", ""), ProcessGauges::default());
    let now = process_gauges();
    assert!(now.resident_bytes > 64 * 1024 && now.threads >= 1 && now.open_fds >= 3, "{now:?}");
}

proptest! {
    #[test]
    fn a_duration_lies_in_its_bucket(ns: u64, bits in 0u32..64) {
        let ns = ns >> bits;
        let histogram = Histogram::default();
        histogram.add(ns);
        let values = histogram.read();
        prop_assert_eq!((values.count(), values.sum_ns), (1, ns));
        let bucket = values.buckets.iter().position(|&n| n == 1).expect("one was added");
        let above = bucket.checked_sub(1).and_then(histogram::upper_ns);
        prop_assert!(above.is_none_or(|end| ns > end), "{} is in the bucket below {:?}", ns, above);
        match histogram::upper_ns(bucket) {
            Some(end) => {
                prop_assert!(ns <= end);
                prop_assert!(bucket == 0 || end - ns <= end / 4, "a quarter too high at most");
            }
            None => prop_assert!(ns > 1 << 32),
        }
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list(
        mut all in prop::collection::vec(1000u64..4_000_000_000, 1..200),
        quantile in 0.0f64..1.0,
    ) {
        let (a, b) = (Histogram::default(), Histogram::default());
        for (number, &ns) in all.iter().enumerate() {
            if number % 2 == 0 { a.add(ns) } else { b.add(ns) }
        }
        let mut values = a.read();
        values.merge(&b.read());
        all.sort_unstable();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // of a small length
        let rank = ((all.len() as f64 * quantile).ceil() as usize).max(1);
        let exact = all[rank - 1];
        let read = values.quantile_ns(quantile);
        prop_assert!(read >= exact && read <= (exact + exact / 4 + 1).max(1024), "{} for {}", read, exact);
    }
}

const DOCUMENT: &str = "docs/operations.md";
const BEGIN: &str = "<!-- metrics: begin -->\n";
const END: &str = "<!-- metrics: end -->";

/// The table of `docs/operations.md`.
fn table() -> String {
    let mut out = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    let mut row = |name: &str, kind: &str, labels: &str, help: &str| {
        out.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    };
    for counter in Counter::ALL {
        let kind = if counter.kind() == Kind::Counter { "counter" } else { "gauge" };
        row(&counter.sample(), kind, "shard", counter.help());
    }
    row("uringest_refusals_total", "counter", "shard, code", REFUSALS_HELP);
    row("uringest_tls_failures_total", "counter", "shard, reason", TLS_FAILURES_HELP);
    row("uringest_copies_total", "counter", "shard, reason", COPIES_HELP);
    row("uringest_copied_bytes_total", "counter", "shard, reason", COPIED_BYTES_HELP);
    row("uringest_tick_seconds", "histogram", "shard, le", TICK_HELP);
    for (name, kind, _, help) in SERVER_FAMILIES {
        let ending = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels = match name {
            "uringest_build" => "version, io",
            "uringest_io" => "shard, backend, tier",
            "uringest_state" => "uringest_state",
            "uringest_degraded" => "what",
            "uringest_tls_certificate_expiry_timestamp_seconds" => "name, file",
            _ => "",
        };
        row(&format!("{name}{ending}"), kind, labels, help);
    }
    out
}

/// `UPDATE_DOCS=1 cargo test --lib metrics::` writes the table into the document.
#[test]
fn the_document_has_the_table() {
    let document = std::fs::read_to_string(DOCUMENT).expect("tests run where Cargo.toml is");
    let begin = document.find(BEGIN).expect("the table's begin is marked") + BEGIN.len();
    let end = document.find(END).expect("the table's end is marked");
    if document[begin..end] != table() && std::env::var_os("UPDATE_DOCS").is_some() {
        let updated = format!("{}{}{}", &document[..begin], table(), &document[end..]);
        std::fs::write(DOCUMENT, updated).expect("the document can be written");
        return;
    }
    assert_eq!(&document[begin..end], table(), "UPDATE_DOCS=1 cargo test --lib metrics:: writes it");
}
