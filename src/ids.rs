//! Newtypes for every index that crosses a module, so that one cannot be passed for another.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// The id as a table index.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A shard: one thread, one ring, and all that it owns. Counted from 0.
    ShardId(u16)
);
id!(
    /// A slot in a shard's connection table. Reused; tokens carry a generation beside it.
    ConnId(u32)
);
id!(
    /// A socket as the I/O backend knows it. Reused after `Op::Close` has completed.
    SockId(u32)
);
id!(
    /// A file as the I/O backend knows it. Reused after it was detached.
    FileId(u32)
);
id!(
    /// A mapping of memory, unique in the process while it is attached.
    RegionId(u32)
);
id!(
    /// A buffer of the shared receive ring; the kernel calls it `bid`.
    BufId(u16)
);
id!(
    /// A topic, never reused.
    TopicId(u32)
);
id!(
    /// A partition of any topic, unique in the server and never reused. It is the `channel` of delivered frames.
    PartitionId(u32)
);
id!(
    /// A subscriber's slot within one partition.
    SubscriberId(u32)
);
id!(
    /// A producer's stream handle as the server hands it out in `opened`; an index into the shard's channel table.
    ChannelId(u32)
);
id!(
    /// A bulk region of a shard's receive memory.
    BulkId(u16)
);
