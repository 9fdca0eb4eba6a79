//! Which backend moves the bytes. It is chosen here, once, for all shards: the rest of the program is generic over
//! [`Io`] and never asks.
//!
//! A build has the backends of its Cargo features. `auto` tries them from the best to the last, and takes the first
//! that can be made for every shard; what was wrong with those before it stays visible (`Chosen::refused`). Whoever
//! names a backend, or a tier of one, gets that or a refusal.

use std::sync::Arc;

use crate::buf::Mapping;
use crate::ids::RegionId;

#[cfg(feature = "epoll")]
use crate::io::epoll::{EpollIo, EpollSpec};
#[cfg(feature = "uring")]
use crate::io::uring::{UringIo, UringSpec};
use crate::io::{Io, SetupError};

/// A backend of this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // named as their modules
pub enum Backend {
    #[cfg(feature = "uring")]
    Uring,
    #[cfg(feature = "epoll")]
    Epoll,
}

/// The backends of this build, the best first.
pub const BUILT: &[Backend] = &[
    #[cfg(feature = "uring")]
    Backend::Uring,
    #[cfg(feature = "epoll")]
    Backend::Epoll,
];

impl Backend {
    /// As `--io` and `Capabilities::backend` have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "uring")]
            Backend::Uring => "uring",
            #[cfg(feature = "epoll")]
            Backend::Epoll => "epoll",
        }
    }

    /// What the kernel's interface is called.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            #[cfg(feature = "uring")]
            Backend::Uring => "io_uring",
            #[cfg(feature = "epoll")]
            Backend::Epoll => "epoll",
        }
    }

    /// Makes the backend on the calling thread, which is the only one that may use it, and hands it to `then`.
    ///
    /// # Errors
    /// What the kernel said to which step, and what would help; `then` has not been called.
    pub fn make<W: WithIo>(self, spec: IoSpec, then: W) -> Result<W::Output, SetupError> {
        let (region, mapping) = spec.shared;
        match self {
            #[cfg(feature = "uring")]
            Backend::Uring => {
                let uring = UringSpec::new(region, mapping, spec.shared_bytes, spec.connections_max);
                Ok(then.with(UringIo::new(UringSpec { tier: spec.tier, ..uring })?))
            }
            #[cfg(feature = "epoll")]
            Backend::Epoll => {
                let epoll = EpollSpec::new(region, mapping, spec.shared_bytes, spec.connections_max);
                Ok(then.with(EpollIo::new(epoll)?))
            }
        }
    }
}

/// What every backend is made from.
#[derive(Debug, Clone)]
pub struct IoSpec {
    /// The region received bytes of `ReceiveShared` come into. Attached by the backend.
    pub shared: (RegionId, Arc<Mapping>),
    /// Bytes of it that are the shared ring, from its start.
    pub shared_bytes: u32,
    /// Connections at most.
    pub connections_max: u32,
    /// A tier of io_uring and no other; means nothing to other backends.
    pub tier: Option<u8>,
}

/// What is done with a backend, whichever it is.
pub trait WithIo {
    /// What comes of it.
    type Output;

    /// Does it.
    fn with<I: Io>(self, io: I) -> Self::Output;
}

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoChoice {
    /// The best backend that this build has and this host gives.
    Auto,
    /// io_uring, or refuse to start.
    Uring,
    /// epoll, or refuse to start.
    Epoll,
}

impl IoChoice {
    /// The backends to try, in this order. Empty: this build does not have what is asked for. Only io_uring has tiers,
    /// so whoever asks for a tier asks for io_uring.
    #[must_use]
    pub fn candidates(self, tier: Option<u8>) -> Vec<Backend> {
        let wanted = match (self, tier) {
            (IoChoice::Auto, None) => return BUILT.to_vec(),
            (IoChoice::Auto | IoChoice::Uring, _) => "uring",
            (IoChoice::Epoll, _) => "epoll",
        };
        BUILT.iter().copied().filter(|backend| backend.name() == wanted).collect()
    }
}

/// Whether this build has a backend of that name.
#[must_use]
pub fn is_built(name: &str) -> bool {
    BUILT.iter().any(|backend| backend.name() == name)
}

/// For those who asked for the backend of that name and have a build without it.
#[must_use]
pub fn not_built(name: &str) -> String {
    format!("this build has no {name} backend: {}", which_build(name))
}

/// Which build has the backend of that name.
#[must_use]
pub fn which_build(name: &str) -> String {
    format!("the default build (cargo build --release) has it, and so has one with --features {name}")
}

/// What all shards run on, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// What runs.
    pub backend: Backend,
    /// Why, for people.
    pub why: String,
    /// What was tried before it and refused, with cause, cost and remedy. `None` where nothing was.
    pub refused: Option<String>,
}

impl Chosen {
    /// The outcome of trying `candidates`: the first after those that were refused.
    #[must_use]
    pub fn after(candidates: &[Backend], refused: &[SetupError]) -> Option<Chosen> {
        let &backend = candidates.get(refused.len())?;
        let Some((first, error)) = candidates.first().zip(refused.first()) else {
            let why = match candidates {
                _ if BUILT.len() == 1 => "this build has no other backend".to_owned(),
                [_] => "it is configured".to_owned(),
                _ => format!("{} works on this host", backend.interface()),
            };
            return Some(Chosen { backend, why, refused: None });
        };
        let why = format!("{} cannot be used ({}: {})", first.interface(), error.doing, error.source);
        let detail = format!(
            "{why}: all shards run on {}, at up to 1.35 times the CPU for each record. To mend it: {}. To run so and not \
             be told: --io {}",
            backend.interface(),
            error.remedy,
            backend.name()
        );
        Some(Chosen { backend, why, refused: Some(detail) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden() -> SetupError {
        SetupError {
            doing: "probing",
            source: std::io::Error::from_raw_os_error(libc::EPERM),
            remedy: "allow it".to_owned(),
        }
    }

    #[test]
    fn auto_tries_all_there_is_and_names_are_taken_at_their_word() {
        assert_eq!(IoChoice::Auto.candidates(None), BUILT);
        for (choice, tier, name) in [
            (IoChoice::Auto, Some(1), "uring"),
            (IoChoice::Uring, None, "uring"),
            (IoChoice::Uring, Some(2), "uring"),
            (IoChoice::Epoll, None, "epoll"),
        ] {
            let names: Vec<_> = choice.candidates(tier).iter().map(|backend| backend.name()).collect();
            let wanted: &[&str] = if is_built(name) { &[name] } else { &[] };
            assert_eq!(names, wanted, "{choice:?} {tier:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_cause_and_remedy_and_only_then() {
        let first = Chosen::after(BUILT, &[]).expect("there is a backend");
        assert_eq!((first.backend, first.refused), (BUILT[0], None));
        assert_eq!(Chosen::after(&BUILT[..1], &[forbidden()]), None, "nothing is left");
        if let [refused, next] = BUILT {
            let chosen = Chosen::after(BUILT, &[forbidden()]).expect("the next");
            assert_eq!(chosen.backend, *next);
            assert!(chosen.why.contains(refused.interface()) && chosen.why.contains("not permitted"));
            let detail = chosen.refused.expect("told");
            for part in ["not permitted", "allow it", "--io epoll", "all shards run on epoll"] {
                assert!(detail.contains(part), "{part} in: {detail}");
            }
        }
    }
}
