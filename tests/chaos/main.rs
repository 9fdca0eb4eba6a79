//! Real faults on real processes: the program as a server, with producers and consumers whose records are numbered, while a
//! cable is pulled, packets are dropped, processes stand still, and memory, descriptors, the disk or the processor run out.
//!
//! Each case says at its top what must hold, holds the server to it, and measures what its clients notice: one line a
//! case, and all of them as JSON in `CARGO_TARGET_TMPDIR`. A case that this host does not allow is listed as skipped, with
//! its reason. Namespaces, mounts and groups are the case's own and end with it, however it ends.
//!
//! The cases run one by one, so that what they measure is of their fault: the target has its own `main`.

mod cable;
mod descriptors;
mod disk;
mod drops;
mod groups;
mod harness;
mod load;
#[path = "../integration/log_rig.rs"]
#[allow(dead_code)] // this target uses a part
mod log_rig;
mod memory;
mod network;
mod processor;
#[path = "../integration/raw.rs"]
#[allow(dead_code)] // this target uses a part
mod raw;
#[path = "../integration/rig.rs"]
#[allow(dead_code, unused_macros, unused_imports)] // this target uses a part
mod rig;
mod stopped;
#[path = "../support/mod.rs"]
mod support;

use harness::{Io, Listed};

/// Every case, and what it is run on.
const CASES: &[Listed] = &[
    Listed { name: "cable::pulled_and_restored", run: cable::pulled_and_restored, on: Io::ALL },
    Listed { name: "cable::peers_behind_it_are_let_go", run: cable::peers_behind_it_are_let_go, on: Io::ALL },
    Listed { name: "drops::a_link_that_loses_packets", run: drops::a_link_that_loses_packets, on: Io::ALL },
    Listed { name: "drops::one_way_only", run: drops::one_way_only, on: Io::ALL },
    Listed { name: "stopped::the_server", run: stopped::the_server, on: Io::ALL },
    Listed { name: "stopped::the_server_beyond_its_time_outs", run: stopped::beyond_time_outs, on: Io::ALL },
    Listed { name: "stopped::a_consumer", run: stopped::a_consumer, on: Io::ALL },
    Listed { name: "stopped::a_producer", run: stopped::a_producer, on: Io::ALL },
    Listed { name: "memory::a_tight_group", run: memory::a_tight_group, on: Io::ALL },
    Listed { name: "memory::more_than_the_group_has", run: memory::more_than_the_group_has, on: Io::ALL },
    Listed { name: "descriptors::connections_take_them_all", run: descriptors::connections, on: Io::ALL },
    Listed { name: "descriptors::files_get_none", run: descriptors::files, on: Io::ALL },
    Listed { name: "disk::full", run: disk::full, on: Io::ALL },
    Listed { name: "processor::starved", run: processor::starved, on: Io::ALL },
];

fn main() -> std::process::ExitCode {
    harness::main(CASES)
}
