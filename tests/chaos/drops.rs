//! Packets between the server and its clients are dropped: some in both directions, and all in one.

use std::time::Duration;

use crate::harness::{Figures, Skipped};
use crate::load::{Load, is_ready};
use crate::network::{CLIENT, CLIENTS_END, Network, SERVER, SERVERS_END, ip, must, tool};
use crate::rig::Case;

/// How long packets are dropped.
const LOSSY: Duration = Duration::from_millis(2_500);
const ONE_WAY: Duration = Duration::from_millis(1_200);
/// In which everything goes on afterwards.
const RECOVERS: Duration = Duration::from_secs(10);

/// What drops packets, by what the host has: a rule of a packet filter, the kernel's emulation of a bad network, or a
/// queue that is too short for its rate, which drops the tails of bursts.
struct Dropper {
    name: &'static str,
    begin: &'static [&'static [&'static str]],
    end: &'static [&'static str],
    /// Prints how many were dropped, after the word or before it.
    count: &'static [&'static str],
}

const DROPPERS: &[Dropper] = &[
    Dropper {
        name: "iptables",
        begin: &[&[
            "iptables",
            "-I",
            "INPUT",
            "-p",
            "tcp",
            "-i",
            "END",
            "-m",
            "statistic",
            "--mode",
            "random",
            "--probability",
            "0.03",
            "-j",
            "DROP",
        ]],
        end: &["iptables", "-F", "INPUT"],
        count: &["iptables", "-L", "INPUT", "-v", "-n", "-x"],
    },
    Dropper {
        name: "nft",
        begin: &[
            &["nft", "add", "table", "ip", "uringest"],
            &["nft", "add chain ip uringest in { type filter hook input priority 0; }"],
            &["nft", "add rule ip uringest in iifname END numgen random mod 100 < 3 counter drop"],
        ],
        end: &["nft", "delete", "table", "ip", "uringest"],
        count: &["nft", "list", "table", "ip", "uringest"],
    },
    Dropper {
        name: "tc netem",
        begin: &[&["tc", "qdisc", "add", "dev", "END", "root", "netem", "loss", "3%"]],
        end: &["tc", "qdisc", "del", "dev", "END", "root"],
        count: &["tc", "-s", "qdisc", "show", "dev", "END"],
    },
    Dropper {
        name: "tc tbf (a short queue)",
        begin: &[&[
            "tc", "qdisc", "add", "dev", "END", "root", "tbf", "rate", "16mbit", "burst", "8k", "limit",
            "12k",
        ]],
        end: &["tc", "qdisc", "del", "dev", "END", "root"],
        count: &["tc", "-s", "qdisc", "show", "dev", "END"],
    },
];

impl Dropper {
    fn run(line: &[&str], end: &str) -> Result<String, String> {
        let line: Vec<String> = line.iter().map(|word| word.replace("END", end)).collect();
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        tool(words[0], &words[1..])
    }

    fn begin(&self, end: &str) -> Result<(), String> {
        self.begin.iter().try_for_each(|line| Dropper::run(line, end).map(drop))
    }

    /// Packets that were dropped, and no more from now on.
    fn end(&self, end: &str) -> u64 {
        let counted = Dropper::run(self.count, end).unwrap_or_else(|why| panic!("{why}"));
        must(Dropper::run(self.end, end));
        dropped(&counted)
    }
}

/// The number in what a tool prints of its drops: "(dropped 12, ...", "counter packets 12 ... drop", "12 345 DROP".
fn dropped(counted: &str) -> u64 {
    let words: Vec<&str> = counted.split([' ', '\n', ',', '(']).filter(|word| !word.is_empty()).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let at = |wanted: &str| words.iter().position(|word| *word == wanted);
    let after = |wanted: &str| at(wanted).and_then(|at| number(at + 1));
    let before_rule = at("DROP").and_then(|at| number(at.checked_sub(2)?));
    after("dropped")
        .or_else(|| at("counter").and_then(|at| number(at + 2)))
        .or(before_rule)
        .unwrap_or_default()
}

/// Some packets are lost in each direction, for a while.
/// What must hold: nothing that TCP mends is noticed but as time: every acknowledged record is there once, in its order.
pub fn a_link_that_loses_packets(case: &Case) -> Result<Figures, Skipped> {
    let network = Network::new()?;
    let mut refused = Vec::new();
    let begin = |dropper: &Dropper, refused: &mut Vec<String>| {
        dropper.begin(SERVERS_END).map_err(|why| refused.push(why)).is_ok()
    };
    let Some(dropper) = DROPPERS.iter().find(|dropper| begin(dropper, &mut refused)) else {
        return Err(Skipped(format!("nothing here drops packets: {}", refused.join("; "))));
    };
    dropper.end(SERVERS_END); // it was a trial
    let directory = tempfile::tempdir().expect("a directory");
    let server = network.start(case, directory.path(), &["--shards", "2"]);
    let load = Load::of_both_kinds(&server, &|call| network.in_clients(call));
    let may = |done: Result<(), String>| done.unwrap_or_else(|why| panic!("{why}"));
    may(dropper.begin(SERVERS_END));
    network.in_clients(&mut || may(dropper.begin(CLIENTS_END)));
    load.go_on(LOSSY);
    is_ready(&server);
    let mut count = dropper.end(SERVERS_END);
    network.in_clients(&mut || count += dropper.end(CLIENTS_END));
    let recovery = load.recovers(RECOVERS);
    assert!(count > 0, "{} dropped nothing", dropper.name);
    Ok(load.finish(recovery).note("dropped packets", count).note("by", dropper.name))
}

/// All packets of one direction are dropped, then all of the other: what is sent arrives and its answer does not, or the
/// other way round.
/// What must hold: an answer that was lost is no reason to store a batch again; nothing acknowledged is lost.
pub fn one_way_only(case: &Case) -> Result<Figures, Skipped> {
    let network = Network::new()?;
    let directory = tempfile::tempdir().expect("a directory");
    let server = network.start(case, directory.path(), &["--shards", "2"]);
    let load = Load::of_both_kinds(&server, &|call| network.in_clients(call));
    let mut recovery = Duration::ZERO;
    for to in [CLIENT, SERVER] {
        let route = |verb: &str| {
            let one = || must(ip(&["route", verb, "blackhole", &format!("{to}/32")]));
            if to == CLIENT { one() } else { network.in_clients(&mut || one()) }
        };
        route("add");
        load.go_on(ONE_WAY);
        is_ready(&server);
        route("del");
        recovery = recovery.max(load.recovers(RECOVERS));
    }
    Ok(load.finish(recovery))
}
