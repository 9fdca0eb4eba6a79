//! Seeds in a row; `SIM_SEEDS=FIRST..LAST` runs others.

use std::path::Path;

use super::plan::Plan;
use super::random::Random;
use super::server::{Kept, Server, Wish};
use super::*;
use crate::control::api::ApiError;
use crate::io::Clock;
use crate::topic::{Overflow, TopicKind};

#[test]
fn whatever_happens_promises_are_kept_and_the_same_seed_is_the_same_run() {
    let wanted = std::env::var("SIM_SEEDS").unwrap_or_else(|_| "0..3".to_owned());
    let (first, last) = wanted.split_once("..").expect("FIRST..LAST");
    let number = |text: &str| text.parse::<u64>().expect("a seed is a number");
    let mappings = Mappings::new();
    for seed in number(first)..number(last) {
        let once = run(seed, &mappings, std::env::var("SIM_TRACE").is_ok());
        let once = once.unwrap_or_else(|failure| panic!("seed {seed}: {failure:?}"));
        let again = run(seed, &mappings, false).expect("it was well once");
        assert_eq!(once, again, "seed {seed}: the same run");
    }
}

/// A server without clients, on a disk whose directories' syncs fail when a test says so.
struct Bench<'a> {
    plan: Plan,
    mappings: &'a Mappings,
    kept: Kept,
    server: Option<Server>,
    now_ns: u64,
}

impl<'a> Bench<'a> {
    /// With one topic to make, of kind `log`.
    fn new(mappings: &'a Mappings) -> Bench<'a> {
        let mut plan = Plan::new(0);
        plan.shards = 1;
        plan.topics.truncate(1);
        let topic = &mut plan.topics[0];
        (topic.kind, topic.overflow, topic.partitions) = (TopicKind::Log, Overflow::Block, 2);
        let kept = Kept::new(Random::new(0));
        let mut bench = Bench { plan, mappings, kept, server: None, now_ns: 1_000_000_000 };
        bench.start();
        bench
    }

    fn clock(&self) -> Clock {
        Clock { mono_ns: self.now_ns, wall_ns: 1_700_000_000_000_000_000 + self.now_ns }
    }

    fn start(&mut self) {
        let clock = self.clock();
        let server = Server::start(&self.plan, self.mappings, &mut self.kept, clock, None);
        self.server = Some(server.expect("nothing stands in the way of a start"));
        loop {
            self.step();
            let started = self.server.as_mut().and_then(Server::take_started);
            if let Some(started) = started {
                return started.expect("nothing stands in the way of a start");
            }
        }
    }

    /// Everybody has a turn, and every operation of the shard on the disk comes to its end.
    fn step(&mut self) {
        self.now_ns += 100_000;
        let clock = self.clock();
        let server = self.server.as_mut().expect("it runs");
        server.serve(clock);
        server.turn(0, clock);
        while self.kept.disk.borrow_mut().complete_any(self.now_ns) {}
    }

    fn rest(&mut self, ms: u64) {
        let until_ns = self.now_ns + ms * 1_000_000;
        while self.now_ns < until_ns {
            self.step();
        }
    }

    fn ask(&mut self, wish: Wish) -> Result<(), ApiError> {
        self.server.as_mut().expect("it runs").ask(wish, &self.plan.topics[0]);
        loop {
            self.step();
            let answers = self.server.as_mut().map(Server::take_answers).unwrap_or_default();
            if let Some((_, answer)) = answers.into_iter().next() {
                return answer;
            }
        }
    }

    /// The next save of the catalogue is whole but for its last step: that its name is durable is not certain.
    fn fail_save(&mut self) {
        self.kept.files.borrow_mut().fail_sync_of(files::DATA);
    }

    fn kill_and_start(&mut self) {
        self.server = None;
        self.kept.ended(false);
        self.start();
    }

    fn topics(&self) -> usize {
        self.server.as_ref().expect("it runs").listed().len()
    }

    fn folders(&self) -> usize {
        self.kept.files.borrow().list(Path::new("/data/log")).len()
    }
}

#[test]
fn a_topic_that_could_not_be_saved_leaves_a_disk_that_a_server_starts_on() {
    let mappings = Mappings::new();
    for ms in [0, 1, 300] {
        let mut bench = Bench::new(&mappings);
        bench.fail_save();
        let refused = bench.ask(Wish::Create(0)).expect_err("its save has failed");
        assert_eq!(refused.code, "catalogue_not_saved");
        bench.rest(ms);
        if ms == 300 {
            assert_eq!(
                bench.folders(),
                0,
                "the catalogue was saved again without the topic, and its folders go"
            );
        }
        bench.kill_and_start();
        assert_eq!(bench.folders(), 2 * bench.topics(), "the topic is there with its folders, or not at all");
    }
}

#[test]
fn a_topic_that_could_not_be_deleted_is_there_after_the_next_start() {
    let mappings = Mappings::new();
    let mut bench = Bench::new(&mappings);
    bench.ask(Wish::Create(0)).expect("nothing stands in the way");
    bench.fail_save();
    let refused = bench.ask(Wish::Delete(0)).expect_err("its save has failed");
    assert_eq!(refused.code, "catalogue_not_saved");
    bench.rest(300);
    bench.kill_and_start();
    assert_eq!((bench.topics(), bench.folders()), (1, 2));
    bench.ask(Wish::Delete(0)).expect("nothing stands in the way");
    bench.rest(10);
    bench.kill_and_start();
    assert_eq!((bench.topics(), bench.folders()), (0, 0));
}

/// That retention takes something in the simulator does not go away unnoticed.
#[test]
fn segments_are_retired_in_one_of_a_few_seeds() {
    let logs: Vec<_> = (0..100).flat_map(|seed| Plan::new(seed).topics).collect();
    let taking = logs.iter().filter(|topic| !topic.retention.keeps_all());
    let counts =
        taking.map(|topic| (usize::from(topic.retention.segments > 0), usize::from(topic.retention.ms > 0)));
    let (few, young) = counts.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    assert!(
        few > 20 && young > 20,
        "of {} topics {few} keep few segments, {young} what is young",
        logs.len()
    );
    let mappings = Mappings::new();
    let retired = |seed| match run_at_most(100_000, seed, &mappings) {
        Ok(outcome) => outcome.map_or(0, |outcome| outcome.retired),
        Err(failure) => panic!("seed {seed}: {failure:?}"),
    };
    assert!((0..20).any(|seed| retired(seed) > 0), "no segment is ever retired");
}
