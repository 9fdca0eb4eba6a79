//! Lines through `pub` to `sub`: the same, each once, in order, over whole connections and over cut ones.

use crate::proxy::{Cut, Proxy};
use crate::rig::{Case, Program, assert_each_once, create, lines, publish};
use crate::support::{PATIENCE, Server, http};

const LINES: u64 = 100_000;

/// Several topics at once, so that connections and partitions meet on different shards.
fn lines_arrive(server_args: &[&str], topics: &[&str]) {
    let server = Server::start(server_args);
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

#[cfg(feature = "uring")]
#[test]
fn lines_arrive_in_order_with_one_shard_on_tier_1() {
    let _case = Case::begin();
    lines_arrive(&["--shards", "1", "--io-tier", "1"], &["lines"]);
}

#[cfg(feature = "uring")]
#[test]
fn lines_arrive_in_order_with_four_shards_on_tier_1() {
    let _case = Case::begin();
    lines_arrive(&["--shards", "4", "--io-tier", "1"], &["a", "b", "c"]);
}

#[test]
fn lines_arrive_in_order_with_four_shards_on_the_best_tier() {
    let _case = Case::begin();
    lines_arrive(&["--shards", "4"], &["a", "b", "c"]);
}

#[cfg(feature = "epoll")]
#[test]
fn lines_arrive_in_order_with_four_shards_on_epoll() {
    let _case = Case::begin();
    lines_arrive(&["--shards", "4", "--io", "epoll"], &["a", "b", "c"]);
}

/// The sum of what a publisher sends and hears, cut in either direction.
fn a_cut_publisher_resumes(server_args: &[&str], cuts: &[Cut]) {
    let server = Server::start(server_args);
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

#[test]
fn a_publisher_cut_on_its_way_to_the_server_resumes() {
    let _case = Case::begin();
    let bytes = [1, 63, 64, 65, 150, 300, 1_000, 2_222, 5_000, 20_001, 65_536, 131_079, 200_000];
    a_cut_publisher_resumes(&["--shards", "2"], &bytes.map(Cut::ToServer));
}

#[cfg(feature = "uring")]
#[test]
fn a_publisher_cut_on_its_way_to_the_server_resumes_on_tier_1() {
    let _case = Case::begin();
    let bytes = [7, 64, 129, 301, 1_001, 2_048, 30_000, 100_003];
    a_cut_publisher_resumes(&["--shards", "2", "--io-tier", "1"], &bytes.map(Cut::ToServer));
}

#[cfg(feature = "epoll")]
#[test]
fn a_publisher_cut_on_its_way_to_the_server_resumes_on_epoll() {
    let _case = Case::begin();
    let bytes = [1, 64, 300, 2_222, 65_536, 131_079];
    a_cut_publisher_resumes(&["--shards", "2", "--io", "epoll"], &bytes.map(Cut::ToServer));
}

#[test]
fn a_publisher_cut_on_its_way_from_the_server_resumes() {
    let _case = Case::begin();
    let bytes = [1, 64, 100, 200, 300, 350, 400, 450, 500];
    a_cut_publisher_resumes(&["--shards", "2"], &bytes.map(Cut::ToClient));
}

#[test]
fn a_cut_subscriber_goes_on_where_it_was() {
    let _case = Case::begin();
    let server = Server::start(&["--shards", "2"]);
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
