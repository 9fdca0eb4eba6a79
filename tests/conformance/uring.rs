//! The io_uring backend: both tiers, and each with what some kernels lack taken away.

use std::sync::Arc;

use uringest::buf::Mapping;
use uringest::ids::RegionId;
use uringest::io::uring::{Features, UringIo, UringSpec};
use uringest::limits::SHARED_RING_BYTES;

use crate::world::{Backend, Shape};

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
    /// Whole buffers, descriptors, and event descriptors for waking: 6.1.
    Tier2Plain, tier_2_plain, 2, |all| Features {
        incremental_buffers: false,
        direct_descriptors: false,
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
