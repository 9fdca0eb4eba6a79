//! Lines through `pub` to `sub`: the same, each once, in order, over whole connections and over cut ones.

use crate::proxy::{Cut, Proxy};
use crate::rig::{Case, Program, assert_each_once, create, lines, publish, scenarios};
use crate::support::{PATIENCE, http};

scenarios! {
    lines_arrive_in_order_with_one_shard on tier_1 epoll;
    lines_arrive_in_order_with_four_shards on best tier_1 epoll;
    a_publisher_cut_on_its_way_to_the_server_resumes on best tier_1 epoll;
    a_publisher_cut_on_its_way_from_the_server_resumes on best epoll;
    a_cut_subscriber_goes_on_where_it_was on best epoll;
}

const LINES: u64 = 100_000;

/// Several topics at once, so that connections and partitions meet on different shards.
fn lines_arrive(case: &Case, shards: &str, topics: &[&str]) {
    let server = case.start(&["--shards", shards]);
    let url = server.url();
    let mut pairs = Vec::new();
    for topic in topics {
        create(&server, topic, &[]);
        let sub = Program::attached(&server, topic, &["--count", &LINES.to_string()]);
        pairs.push((sub, *topic));
    }
    let mut pubs: Vec<_> = topics
        .iter()
        .map(|topic| Program::fed(&["pub", topic, "--server", &url], lines(1..=LINES)))
        .collect();
    for program in &mut pubs {
        assert_eq!(program.wait(), Some(0), "{}", program.err());
        assert_eq!(program.err(), "", "nothing to say");
    }
    for (sub, _) in &mut pairs {
        assert_each_once(&sub.numbers(), 1..=LINES);
        assert_eq!(sub.err(), "", "nothing to say");
    }
}

fn lines_arrive_in_order_with_one_shard(case: &Case) {
    lines_arrive(case, "1", &["lines"]);
}

fn lines_arrive_in_order_with_four_shards(case: &Case) {
    lines_arrive(case, "4", &["a", "b", "c"]);
}

/// The sum of what a publisher sends and hears, cut in either direction.
fn a_cut_publisher_resumes(case: &Case, cuts: &[Cut]) {
    let server = case.start(&["--shards", "2"]);
    let mut sub = Program::attached(&server, "cut", &["--count", &LINES.to_string()]);
    let proxy = Proxy::start(server.data, cuts.iter().copied());
    let args = ["pub", "cut", "--server", &proxy.url(), "--batch-bytes", "2KiB"];
    let mut publisher = Program::fed(&args, lines(1..=LINES));
    assert_eq!(publisher.wait(), Some(0), "{}", publisher.err());
    assert_eq!(proxy.cuts(), cuts.len(), "it was cut where it should be: {}", publisher.err());
    assert_each_once(&sub.numbers(), 1..=LINES);
    let (status, body) = http(server.admin, "GET", "/v1/topics/cut", "").expect("described");
    assert!(status == 200 && body.contains(&format!("\"log_end_offset\":{LINES}")), "{body} in {PATIENCE:?}");
}

fn a_publisher_cut_on_its_way_to_the_server_resumes(case: &Case) {
    let bytes = [
        1, 7, 63, 64, 65, 129, 150, 301, 1_000, 2_048, 2_222, 5_000, 20_001, 65_536, 100_003, 131_079,
        200_000,
    ];
    a_cut_publisher_resumes(case, &bytes.map(Cut::ToServer));
}

fn a_publisher_cut_on_its_way_from_the_server_resumes(case: &Case) {
    let bytes = [1, 64, 100, 200, 300, 350, 400, 450, 500];
    a_cut_publisher_resumes(case, &bytes.map(Cut::ToClient));
}

fn a_cut_subscriber_goes_on_where_it_was(case: &Case) {
    let server = case.start(&["--shards", "2"]);
    publish(&server, "kept", 1..=LINES, &[]);
    let bytes = [1, 64, 200, 301, 350, 1_000, 20_000, 20_001, 131_079, 300_000];
    let cuts = bytes.map(Cut::ToClient).into_iter().chain([Cut::ToServer(70), Cut::ToServer(170)]);
    let proxy = Proxy::start(server.data, cuts);
    let count = LINES.to_string();
    let args = ["sub", "kept", "--from", "earliest", "--count", &count, "--server", &proxy.url()];
    let mut sub = Program::start(&args);
    assert_each_once(&sub.numbers(), 1..=LINES);
    assert_eq!(proxy.cuts(), bytes.len() + 2, "{}", sub.err());
}
