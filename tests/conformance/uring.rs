//! The io_uring backend: both tiers, and each with what some kernels lack taken away.

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;

use uringest::buf::{Mapping, Pages, Span};
use uringest::ids::{FileId, RegionId};
use uringest::io::uring::{Features, UringIo, UringSpec};
use uringest::io::{FileHandle, Io, Op, Outcome, TokenKind};
use uringest::limits::SHARED_RING_BYTES;

use crate::world::{Backend, Shape, World};

const LARGE: RegionId = RegionId(5);

fn make(
    shape: Shape,
    region: RegionId,
    shared: &Arc<Mapping>,
    tier: u8,
    without: impl Fn(Features) -> Features,
) -> Result<UringIo, String> {
    let all = UringIo::detect().map_err(|error| error.to_string())?;
    // Zero-copy sends came with all that tier 2 needs: a kernel that has them and no tier 2 was misjudged.
    assert!(!all.send_zc || all.missing_for_tier_2().is_empty(), "no tier 2: {all:?}");
    let limit = without(all);
    if tier == 2 && !limit.missing_for_tier_2().is_empty() {
        return Err(format!("no tier 2 here: {:?}", limit.missing_for_tier_2()));
    }
    let spec = UringSpec {
        tier: Some(tier),
        sq_entries: shape.sq_entries,
        limit: Some(limit),
        ..UringSpec::new(region, Arc::clone(shared), SHARED_RING_BYTES, shape.connections)
    };
    let io = UringIo::new(spec).map_err(|error| error.to_string())?;
    assert_eq!(uringest::io::Io::capabilities(&io).tier, tier);
    Ok(io)
}

macro_rules! backend {
    ($(#[$doc:meta])* $name:ident, $module:ident, $tier:expr, $without:expr) => {
        $(#[$doc])*
        pub struct $name;

        impl Backend for $name {
            type Io = UringIo;

            fn make(shape: Shape, region: RegionId, shared: &Arc<Mapping>) -> Result<UringIo, String> {
                make(shape, region, shared, $tier, $without)
            }

            fn outstanding(io: &UringIo) -> u32 {
                assert_eq!(io.stats().unknown, 0, "every completion belongs to an operation");
                io.stats().outstanding
            }

            fn sockets(io: &UringIo) -> u32 {
                io.stats().sockets
            }

            fn files(io: &UringIo) -> u32 {
                io.stats().files
            }

            fn free_lists(io: &UringIo) -> usize {
                io.free_span_lists()
            }
        }

        mod $module {
            crate::cases::conformance!(super::$name);
        }
    };
}

backend!(
    /// All the kernel gives.
    Tier2, tier_2, 2, |all| all
);
backend!(
    /// Whole buffers, descriptors, event descriptors for waking, and memory registered for files alone: 6.1.
    Tier2Plain, tier_2_plain, 2, |all| Features {
        incremental_buffers: false,
        direct_descriptors: false,
        registered_buffers: false,
        ring_messages: false,
        no_sqarray: false,
        ..all
    }
);
backend!(
    /// Single-shot operations, multishot polls: 5.13 to 5.18.
    Tier1, tier_1, 1, |all| all
);
backend!(
    /// The least: single-shot polls, time-outs as operations, nothing registered: 5.6.
    Tier1Bare, tier_1_bare, 1, |all| Features {
        ext_arg: false,
        multishot_poll: false,
        buffer_updates: false,
        registered_buffers: false,
        skip_success: false,
        ..all
    }
);

/// What the kernel was found to do must hang together (`--nocapture` shows it).
#[test]
fn this_kernel() {
    let features = match UringIo::detect() {
        Ok(features) => features,
        Err(error) => return println!("SKIPPED: {error}"),
    };
    println!("{features:#?}");
    assert!(!features.incremental_buffers || features.multishot_receive);
    assert!(!features.multishot_receive || features.buffer_ring);
    assert!(!features.defer_taskrun || features.single_issuer);
}

/// A world with a large ring, and a file in memory.
fn large() -> Option<(World<Tier2>, FileId)> {
    let mut world = World::<Tier2>::new(Shape::default())?;
    let ring = Arc::new(Mapping::mirrored(64 << 20, Pages::Small).expect("memory for a test"));
    world.io.attach_region(LARGE, &ring, false);
    // SAFETY: a valid name; the descriptor is new and nobody else's.
    let file =
        unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"conformance".as_ptr(), libc::MFD_CLOEXEC)) };
    let file = world.io.attach_file(FileHandle::Fd { fd: file, direct: false }).expect("room for a file");
    Some((world, file))
}

fn write_from(world: &mut World<Tier2>, file: FileId, at: u64) {
    let from = Span { region: LARGE, at, bytes: 4096 };
    let token = world.submit(Op::WriteFile { file, at: 0, from }, TokenKind::FileWrite, 0);
    world.ends(token, Outcome::Written { bytes: 4096 });
}

/// Memory is registered where files meet it, piece by piece, and no longer when its region goes.
#[test]
fn file_memory_is_registered_in_pieces() {
    let Some((mut world, file)) = large() else { return };
    if !world.io.features().buffer_updates {
        return println!("SKIPPED: this kernel registers all buffers at once");
    }
    assert_eq!(world.io.stats().file_pieces, 0);
    for (at, pieces) in [(0, 1), (31 << 20, 1), (32 << 20, 2), (33 << 20, 2), (64 << 20, 3), (4096, 3)] {
        write_from(&mut world, file, at);
        assert_eq!(world.io.stats().file_pieces, pieces, "after a write from {at}");
    }
    world.io.detach_region(LARGE);
    assert_eq!(world.io.stats().file_pieces, 0);
    drop(world.io.detach_file(file));
    world.settled();
}

/// Where no more memory may be locked files are written all the same, and it is said.
#[test]
fn file_memory_that_may_not_be_locked() {
    if !crate::races::alone(concat!(module_path!(), "::file_memory_that_may_not_be_locked")) {
        return;
    }
    let limit = libc::rlimit { rlim_cur: 4 << 20, rlim_max: 4 << 20 };
    // SAFETY: `limit` is readable; the case is alone in its process.
    let limited = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) == 0 };
    // SAFETY: no memory is involved. Whoever may lock what it likes gives that up; for others it changes nothing.
    unsafe { libc::setresuid(65534, 65534, 65534) };
    assert!(limited);
    let Some((mut world, file)) = large() else { return };
    if !world.io.features().buffer_updates {
        return println!("SKIPPED: this kernel registers all buffers at once");
    }
    write_from(&mut world, file, 0);
    write_from(&mut world, file, 40 << 20);
    assert_eq!(world.io.stats().file_pieces, 0, "4 MiB is not enough");
    assert!(uringest::log::degradations().contains(&"file_memory_not_registered"));
    world.io.detach_region(LARGE);
    drop(world.io.detach_file(file));
    world.settled();
}
