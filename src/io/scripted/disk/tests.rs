use std::sync::Arc;

use super::{BLOCK_BYTES, DiskEvent, DiskOp, SECTOR_BYTES, SimDisk};
use crate::buf::{Mapping, Pages, Span};
use crate::ids::{FileId, RegionId};
use crate::io::scripted::Scripted;
use crate::io::{Completion, FileHandle, Io, IoError, Op, Outcome, Token, TokenKind, Wait};

const MEMORY: RegionId = RegionId(7);
const BLOCK: u32 = 4096;

/// A world with 64 KiB of memory and one file.
struct World {
    io: Scripted,
    memory: Arc<Mapping>,
    number: u64,
    file: FileId,
    tokens: u32,
}

impl World {
    fn new(contents: Vec<u8>) -> World {
        World::named(RegionId(0), contents)
    }

    fn named(name: RegionId, contents: Vec<u8>) -> World {
        let shared = Arc::new(Mapping::mirrored(64 * 1024, Pages::Small).expect("memory for a test"));
        let memory = Arc::new(Mapping::plain(64 * 1024, Pages::Small).expect("memory for a test"));
        let mut io = Scripted::new(name, &shared, 4);
        io.attach_region(MEMORY, &memory, false);
        let number = io.disk().borrow_mut().create(contents);
        let handle = io.disk().borrow().open(number);
        let file = io.attach_file(handle).expect("room for a file");
        World { io, memory, number, file, tokens: 0 }
    }

    fn with_disk<T>(&self, what: impl FnOnce(&mut SimDisk) -> T) -> T {
        what(&mut self.io.disk().borrow_mut())
    }

    fn fill(&self, at: usize, bytes: usize, value: u8) {
        assert!(at + bytes <= self.memory.bytes());
        // SAFETY: inside the mapping; nothing else refers to it.
        unsafe { self.memory.base().add(at).write_bytes(value, bytes) };
    }

    fn memory(&self, at: usize, bytes: usize) -> Vec<u8> {
        assert!(at + bytes <= self.memory.bytes());
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.memory.base().add(at), bytes).to_vec() }
    }

    fn submit(&mut self, op: Op) -> Token {
        self.tokens += 1;
        let token = Token::new(TokenKind::FileWrite, self.tokens, 0);
        self.io.submit(op, token).expect("taken");
        token
    }

    /// Writes blocks from the same place in memory, filled with `value`.
    fn write(&mut self, at: u64, blocks: u32, value: u8) -> Token {
        self.fill(usize::try_from(at).expect("small"), (blocks * BLOCK) as usize, value);
        let from = Span { region: MEMORY, at, bytes: blocks * BLOCK };
        self.submit(Op::WriteFile { file: self.file, at, from })
    }

    fn read(&mut self, at: u64, bytes: u32) -> Token {
        let into = Span { region: MEMORY, at: 0, bytes };
        self.submit(Op::ReadFile { file: self.file, at, into })
    }

    fn sync(&mut self) -> Token {
        self.submit(Op::SyncFile { file: self.file })
    }

    fn reap(&mut self) -> Vec<(Token, Outcome)> {
        let mut out = Vec::with_capacity(64);
        self.io.reap(Wait::No, &mut out).expect("it goes on");
        out.into_iter()
            .map(|Completion { token, outcome, more }| {
                assert!(!more);
                (token, outcome)
            })
            .collect()
    }

    fn done(&mut self) -> Outcome {
        let reaped = self.reap();
        assert_eq!(reaped.len(), 1, "{reaped:?}");
        reaped[0].1
    }

    fn contents(&self) -> Vec<u8> {
        self.with_disk(|disk| disk.contents(self.number))
    }
}

#[test]
fn what_is_written_is_read_and_lasts_when_it_is_synced() {
    let mut world = World::new(vec![9; 16 * 1024]);
    let write = world.write(4096, 2, 1);
    assert_eq!(world.reap(), [(write, Outcome::Written { bytes: 2 * BLOCK })]);
    let read = world.read(0, 4 * BLOCK);
    assert_eq!(world.reap(), [(read, Outcome::Read { bytes: 4 * BLOCK })]);
    assert_eq!(world.memory(0, 16 * 1024), world.contents());
    assert_eq!(world.contents(), [[9; 4096], [1; 4096], [1; 4096], [9; 4096]].concat());
    let sync = world.sync();
    assert_eq!(world.with_disk(|disk| disk.unsynced(0)), 1);
    assert_eq!(world.reap(), [(sync, Outcome::Done)]);
    assert_eq!(world.with_disk(|disk| disk.unsynced(0)), 0);
    for seed in 0..8 {
        world.with_disk(|disk| disk.power_cut(seed));
        assert_eq!(world.contents(), [[9; 4096], [1; 4096], [1; 4096], [9; 4096]].concat());
    }
}

#[test]
fn files_end_where_they_end() {
    let mut world = World::new(vec![3; 6000]);
    world.read(4096, 2 * BLOCK);
    assert_eq!(world.done(), Outcome::Read { bytes: 6000 - 4096 });
    world.read(8192, BLOCK);
    assert_eq!(world.done(), Outcome::EndOfStream);
    world.write(8192, 1, 4);
    assert_eq!(world.done(), Outcome::Written { bytes: BLOCK });
    assert_eq!(world.with_disk(|disk| disk.length(0)), 12288);
    assert_eq!(world.contents(), [vec![3; 6000], vec![0; 2192], vec![4; 4096]].concat());
    world.with_disk(|disk| disk.truncate(0, 4096));
    assert_eq!(world.contents(), [3; 4096]);
}

#[test]
fn a_sync_covers_what_had_completed_when_it_began() {
    let mut world = World::new(vec![0; 16 * 1024]);
    world.with_disk(|disk| disk.hold(true));
    world.write(0, 1, 1);
    world.with_disk(|disk| disk.complete(0));
    world.write(4096, 1, 2);
    let sync = world.sync();
    world.with_disk(|disk| disk.complete(1));
    world.with_disk(|disk| disk.complete(2));
    assert!(world.reap().contains(&(sync, Outcome::Done)));
    assert_eq!(world.with_disk(|disk| disk.unsynced(0)), 1, "the second write had not completed");
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..64 {
        let mut world = World::new(vec![0; 16 * 1024]);
        world.write(0, 1, 1);
        world.reap();
        world.sync();
        world.reap();
        world.write(4096, 1, 2);
        world.reap();
        world.with_disk(|disk| disk.power_cut(seed));
        let contents = world.contents();
        assert_eq!(contents[..4096], [1; 4096]);
        for sector in contents[4096..8192].chunks(usize::try_from(SECTOR_BYTES).expect("small")) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole");
            assert!(sector[0] == 0 || sector[0] == 2);
            if sector[0] == 2 { kept += 1 } else { lost += 1 }
        }
        assert_eq!(contents[8192..], [0; 8192]);
    }
    assert!(kept > 100 && lost > 100, "{kept} sectors kept, {lost} lost");
}

#[test]
fn the_same_seed_makes_the_same_cut() {
    let cut = |seed| {
        let mut world = World::new(vec![0; 64 * 1024]);
        for block in 0..8 {
            world.write(block * BLOCK_BYTES, 1, 5);
        }
        world.with_disk(|disk| disk.power_cut(seed));
        world.contents()
    };
    assert_eq!(cut(11), cut(11));
    assert!((0..8).any(|seed| cut(seed) != cut(11)));
}

#[test]
fn operations_complete_in_any_order_when_they_are_held() {
    let mut world = World::new(vec![0; 16 * 1024]);
    world.with_disk(|disk| disk.hold(true));
    let tokens = [world.write(0, 1, 1), world.write(4096, 1, 2), world.sync()];
    assert_eq!(world.reap(), []);
    let held = world.with_disk(|disk| disk.in_flight());
    assert_eq!(held.iter().map(|op| op.op).collect::<Vec<_>>(), [DiskOp::Write, DiskOp::Write, DiskOp::Sync]);
    let cancel = world.submit(Op::Cancel { target: tokens[1] });
    assert_eq!(world.reap(), [], "an operation on a file is not cancelled");
    for id in [2, 1, 0] {
        world.with_disk(|disk| disk.complete(id));
    }
    let written = Outcome::Written { bytes: BLOCK };
    let all =
        [(tokens[2], Outcome::Done), (tokens[1], written), (tokens[0], written), (cancel, Outcome::Done)];
    assert_eq!(world.reap(), all);
    world.write(0, 1, 3);
    assert_eq!(world.reap(), []);
    world.with_disk(|disk| disk.hold(false));
    assert_eq!(world.done(), written);
    let began = world.with_disk(SimDisk::take_events);
    assert_eq!(began.iter().filter(|event| matches!(event, DiskEvent::Began(_))).count(), 4);
}

#[test]
fn faults_come_once_and_in_order() {
    let mut world = World::new(vec![0; 16 * 1024]);
    world.with_disk(|disk| {
        disk.short_next(DiskOp::Write, 512);
        disk.fail_next(DiskOp::Write, IoError::Os(libc::EIO));
        disk.fail_next(DiskOp::Sync, IoError::Os(libc::EIO));
        disk.fail_next(DiskOp::Read, IoError::Os(libc::EIO));
        disk.short_next(DiskOp::Read, 100);
    });
    world.write(0, 1, 1);
    assert_eq!(world.done(), Outcome::Written { bytes: 512 });
    assert_eq!(world.contents()[..1024], [[1; 512], [0; 512]].concat());
    world.write(0, 1, 2);
    assert_eq!(world.done(), Outcome::Failed(IoError::Os(libc::EIO)));
    assert_eq!(world.contents()[..4096], [[2; 2048], [0; 2048]].concat(), "half of it may be there");
    world.write(0, 1, 3);
    assert_eq!(world.done(), Outcome::Written { bytes: BLOCK });
    world.sync();
    assert_eq!(world.done(), Outcome::Failed(IoError::Os(libc::EIO)));
    assert_eq!(world.with_disk(|disk| disk.unsynced(0)), 3, "nothing is durable by it");
    world.sync();
    assert_eq!(world.done(), Outcome::Done);
    world.read(0, BLOCK);
    assert_eq!(world.done(), Outcome::Failed(IoError::Os(libc::EIO)));
    world.read(0, BLOCK);
    assert_eq!(world.done(), Outcome::Read { bytes: 100 });
}

#[test]
fn a_full_disk_takes_nothing_until_there_is_room() {
    let mut world = World::new(vec![0; 4096]);
    world.with_disk(|disk| disk.full(true));
    world.write(0, 1, 1);
    assert_eq!(world.done(), Outcome::Failed(IoError::NoSpace));
    assert_eq!(world.contents(), [0; 4096]);
    world.with_disk(|disk| disk.full(false));
    world.write(0, 1, 1);
    assert_eq!(world.done(), Outcome::Written { bytes: BLOCK });
}

#[test]
fn a_failed_sync_may_drop_what_readers_go_on_seeing() {
    let mut world = World::new(vec![7; 8192]);
    world.with_disk(|disk| {
        disk.failed_syncs_drop(true);
        disk.fail_next(DiskOp::Sync, IoError::Os(libc::EIO));
    });
    world.write(0, 1, 1);
    assert_eq!(world.done(), Outcome::Written { bytes: BLOCK });
    world.sync();
    assert_eq!(world.done(), Outcome::Failed(IoError::Os(libc::EIO)));
    world.write(4096, 1, 2);
    assert_eq!(world.done(), Outcome::Written { bytes: BLOCK });
    world.sync();
    assert_eq!(world.done(), Outcome::Done, "the error is told once");
    assert_eq!(world.contents(), [[1; 4096], [2; 4096]].concat());
    world.with_disk(|disk| disk.kill(1));
    assert_eq!(world.contents(), [[1; 4096], [2; 4096]].concat(), "the page cache outlives the process");
    world.with_disk(|disk| disk.power_cut(1));
    assert_eq!(world.contents(), [[7; 4096], [2; 4096]].concat());
}

#[test]
fn a_killed_process_leaves_what_has_completed() {
    let mut whole = 0;
    for seed in 0..64 {
        let mut world = World::new(vec![0; 16 * 1024]);
        world.write(0, 1, 1);
        world.reap();
        world.with_disk(|disk| disk.hold(true));
        world.write(4096, 1, 2);
        world.with_disk(|disk| disk.kill(seed));
        let contents = world.contents();
        assert_eq!(contents[..4096], [1; 4096]);
        whole += usize::from(contents[4096..8192] == [2; 4096]);
        assert_eq!(world.reap(), [], "nothing in flight completes");
        assert_eq!(world.with_disk(|disk| disk.unsynced(0)), 2, "the power may still be cut");
    }
    assert!((1..64).contains(&whole), "{whole} of 64 were there");
}

#[test]
fn handles_of_before_are_stale() {
    let mut world = World::new(vec![0; 4096]);
    let handle = world.with_disk(|disk| disk.open(0));
    assert_eq!(SimDisk::number(&handle), 0);
    world.with_disk(|disk| disk.power_cut(0));
    let Err((error, FileHandle::Simulated(raw))) = world.io.attach_file(handle) else {
        panic!("it is stale")
    };
    assert_eq!(error, IoError::Os(libc::ESTALE));
    assert_eq!(SimDisk::number(&FileHandle::Simulated(raw)), 0);
    world.write(0, 1, 1);
    assert_eq!(world.reap(), [], "whoever went down with the power does nothing");
    assert_eq!(world.contents(), [0; 4096]);
    let again = world.with_disk(|disk| disk.open(0));
    world.file = world.io.attach_file(again).expect("it is good");
    world.write(0, 1, 1);
    assert_eq!(world.done(), Outcome::Written { bytes: BLOCK });
    assert!(matches!(world.io.detach_file(world.file), FileHandle::Simulated(_)));
}

#[test]
#[should_panic(
    expected = "a byte under a write has changed: file 0, position 8200, of the 4096 bytes written at 8192"
)]
fn no_byte_under_a_write_changes() {
    let mut world = World::new(vec![0; 16 * 1024]);
    world.write(8192, 1, 1);
    world.fill(8200, 1, 2);
    world.reap();
}

#[test]
#[should_panic(expected = "a byte under a write has changed")]
fn nor_does_one_when_the_power_is_cut() {
    let mut world = World::new(vec![0; 16 * 1024]);
    world.write(8192, 1, 1);
    world.fill(8200, 1, 2);
    world.with_disk(|disk| disk.power_cut(1));
}

#[test]
#[should_panic(expected = "two writes to the same bytes are in flight")]
fn a_block_is_not_written_twice_at_once() {
    let mut world = World::new(vec![0; 16 * 1024]);
    world.write(0, 2, 1);
    let from = Span { region: MEMORY, at: 32 * 1024, bytes: BLOCK };
    world.submit(Op::WriteFile { file: world.file, at: 4096, from });
}

#[test]
#[should_panic(expected = "whole blocks")]
fn what_is_written_is_whole_blocks() {
    let mut world = World::new(vec![0; 16 * 1024]);
    let from = Span { region: MEMORY, at: 0, bytes: 512 };
    world.submit(Op::WriteFile { file: world.file, at: 0, from });
}

#[test]
#[should_panic(expected = "whole blocks")]
fn so_is_where_it_is_written() {
    let mut world = World::new(vec![0; 16 * 1024]);
    let from = Span { region: MEMORY, at: 0, bytes: BLOCK };
    world.submit(Op::WriteFile { file: world.file, at: 512, from });
}

#[test]
#[should_panic(expected = "no operation on it is outstanding")]
fn a_file_in_use_is_not_given_up() {
    let mut world = World::new(vec![0; 16 * 1024]);
    world.sync();
    let _handle = world.io.detach_file(world.file);
}

#[test]
fn worlds_share_a_disk() {
    let mut one = World::new(vec![0; 4096]);
    let mut other = World::named(RegionId(1), Vec::new());
    let _unused = other.io.detach_file(other.file);
    other.io.share_disk(one.io.disk());
    let handle = one.with_disk(|disk| disk.open(0));
    other.file = other.io.attach_file(handle).expect("room for a file");
    let written = one.write(0, 1, 6);
    assert_eq!(other.reap(), [], "each hears of its own");
    assert_eq!(one.reap(), [(written, Outcome::Written { bytes: BLOCK })]);
    other.read(0, BLOCK);
    assert_eq!(other.done(), Outcome::Read { bytes: BLOCK });
    assert_eq!(other.memory(0, 4096), [6; 4096]);
}

#[test]
fn a_durable_write_speaks_for_itself_alone() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..32 {
        let mut world = World::new(vec![0; 16 * 1024]);
        world.write(0, 2, 1);
        assert_eq!(world.done(), Outcome::Written { bytes: 2 * BLOCK });
        world.fill(32 * 1024, 4096, 2);
        let from = Span { region: MEMORY, at: 32 * 1024, bytes: BLOCK };
        world.submit(Op::WriteFileDurably { file: world.file, at: 4096, from });
        assert_eq!(world.done(), Outcome::Written { bytes: BLOCK });
        assert_eq!(world.contents()[..8192], [[1; 4096], [2; 4096]].concat());
        world.with_disk(|disk| disk.power_cut(seed));
        let contents = world.contents();
        assert_eq!(contents[4096..8192], [2; 4096], "nothing of before comes back in its place");
        kept += usize::from(contents[..4096] == [1; 4096]);
        lost += usize::from(contents[..4096] == [0; 4096]);
    }
    assert!(kept > 0 && lost > 0, "the write before is no more durable for it: {kept} {lost}");
    let mut world = World::new(vec![0; 4096]);
    world.with_disk(|disk| disk.fail_next(DiskOp::DurableWrite, IoError::Os(libc::EIO)));
    let from = Span { region: MEMORY, at: 0, bytes: BLOCK };
    world.submit(Op::WriteFileDurably { file: world.file, at: 0, from });
    assert_eq!(world.done(), Outcome::Failed(IoError::Os(libc::EIO)));
}
