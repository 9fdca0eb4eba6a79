//! Who is measured in a report, and how it is told apart: by name, colour, line and marker.

use serde::{Deserialize, Serialize};

use super::chart::{Marker, Stroke};

/// One of those measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// This project's server on io_uring.
    Uring,
    /// This project's server on epoll.
    Epoll,
    /// The bare program on io_uring.
    LimitUring,
    /// The bare program on epoll.
    LimitEpoll,
    /// `nats-server`.
    Nats,
    /// `redis-server`, publish and subscribe.
    RedisPubsub,
    /// `redis-server`, streams.
    RedisStreams,
}

impl Who {
    /// In the order of tables and legends.
    pub const ALL: [Who; 7] = [
        Who::Uring,
        Who::Epoll,
        Who::Nats,
        Who::RedisPubsub,
        Who::RedisStreams,
        Who::LimitUring,
        Who::LimitEpoll,
    ];

    /// In tables and legends.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Who::Uring => "uringest, uring",
            Who::Epoll => "uringest, epoll",
            Who::LimitUring => "ceiling, io_uring",
            Who::LimitEpoll => "ceiling, epoll",
            Who::Nats => "NATS",
            Who::RedisPubsub => "Redis pub/sub",
            Who::RedisStreams => "Redis Streams",
        }
    }

    /// The ceiling that its figures are compared with: the bare program on the same interface of the kernel. Peers
    /// are on epoll.
    #[must_use]
    pub const fn ceiling(self) -> Option<Who> {
        match self {
            Who::Uring => Some(Who::LimitUring),
            Who::Epoll | Who::Nats | Who::RedisPubsub | Who::RedisStreams => Some(Who::LimitEpoll),
            Who::LimitUring | Who::LimitEpoll => None,
        }
    }

    /// Whether it is this project's server.
    #[must_use]
    pub const fn is_uringest(self) -> bool {
        matches!(self, Who::Uring | Who::Epoll)
    }

    /// Whether it is another project's server.
    #[must_use]
    pub const fn is_peer(self) -> bool {
        matches!(self, Who::Nats | Who::RedisPubsub | Who::RedisStreams)
    }

    /// Whether it does the work of a topic that keeps its records, or (the ceiling) the part of it that moves bytes.
    #[must_use]
    pub const fn keeps(self) -> bool {
        !matches!(self, Who::Nats | Who::RedisPubsub)
    }

    /// Its class in the charts' style sheet.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Who::Uring | Who::LimitUring => "uring",
            Who::Epoll | Who::LimitEpoll => "epoll",
            Who::Nats => "nats",
            Who::RedisPubsub => "pubsub",
            Who::RedisStreams => "streams",
        }
    }

    /// Ceilings are dashed and hollow in the colour of their interface.
    pub(super) const fn stroke(self) -> Stroke {
        match self {
            Who::LimitUring | Who::LimitEpoll => Stroke::Dashed,
            _ => Stroke::Solid,
        }
    }

    pub(super) const fn marker(self) -> Marker {
        match self {
            Who::Uring => Marker::Circle,
            Who::Epoll => Marker::Square,
            Who::LimitUring => Marker::HollowCircle,
            Who::LimitEpoll => Marker::HollowSquare,
            Who::Nats => Marker::Triangle,
            Who::RedisPubsub => Marker::Diamond,
            Who::RedisStreams => Marker::Cross,
        }
    }
}
