//! Every bound of the server, and the asserts that relate them.
//!
//! A name ends in its unit. Values an operator may change are defaults here and keys in `config`; the
//! others are fixed by the protocol or by the shape of a structure.

/// Bytes of a frame header (docs/protocol.md).
pub const HEADER_BYTES: usize = HEADER_BYTES_U32 as usize;
/// The same, as lengths of spans count.
pub const HEADER_BYTES_U32: u32 = 64;
/// Frames start and end at multiples of this many bytes from the start of their run.
pub const FRAME_ALIGN_BYTES: usize = 8;
/// Largest frame by default, header included.
pub const FRAME_BYTES_MAX_DEFAULT: u32 = 128 * KIB;
/// Largest frame an operator may allow, header included.
pub const FRAME_BYTES_MAX_CEILING: u32 = 4 * 1024 * KIB;
/// Smallest value an operator may set for the largest frame.
pub const FRAME_BYTES_MAX_FLOOR: u32 = 16 * KIB;
/// Records in one batch.
pub const BATCH_RECORDS_MAX: u32 = 16 * 1024;
/// Bytes of a control frame's body.
pub const CONTROL_BODY_BYTES_MAX: u32 = 4 * KIB;
/// Bytes of a topic's name.
pub const TOPIC_NAME_BYTES_MAX: usize = 200;
/// Bytes of a consumer's name.
pub const CONSUMER_NAME_BYTES_MAX: usize = 100;
/// Bytes of a token in hello.
pub const TOKEN_BYTES_MAX: usize = 512;
/// Bytes of the name a client, a server or a tenant tells its peer.
pub const PEER_NAME_BYTES_MAX: usize = 128;
/// Bytes of the text that goes with a refusal.
pub const DETAIL_BYTES_MAX: usize = 512;
/// Tenants of one server.
pub const TENANTS_MAX: usize = 1024;
/// Tokens of one tenant: enough to roll a token over.
pub const TOKENS_PER_TENANT: usize = 16;
/// Rules of one tenant.
pub const RULES_PER_TENANT: usize = 256;
/// Bytes of a tenant's name.
pub const TENANT_NAME_BYTES_MAX: usize = 100;
/// Different degradations that are remembered as logged.
pub const DEGRADATIONS_MAX: usize = 64;

/// Shards in one server.
pub const SHARDS_MAX: usize = 64;
/// Connections of one server by default.
pub const CONNECTIONS_MAX_DEFAULT: u32 = 16 * 1024;
/// Connections of one server at most.
pub const CONNECTIONS_MAX_CEILING: u32 = 256 * 1024;
/// Producer channels of one connection.
pub const CHANNELS_PER_CONNECTION: u32 = 256;
/// Subscriptions of one connection.
pub const SUBSCRIPTIONS_PER_CONNECTION: u32 = 256;
/// Partitions of one topic.
pub const PARTITIONS_PER_TOPIC: u32 = 256;
/// Topics of one server.
pub const TOPICS_MAX: u32 = 1024;
/// Partitions of one server.
pub const PARTITIONS_MAX: u32 = 4096;
/// Subscribers of one partition.
pub const SUBSCRIBERS_PER_PARTITION: u32 = 1024;
/// Producers one partition remembers for deduplication.
pub const PRODUCERS_PER_PARTITION: u32 = 4096;
/// Batches a producer may have in flight on one channel.
pub const INFLIGHT_BATCHES_MAX: u32 = 64;
/// Batches each producer's deduplication entry remembers.
pub const DEDUP_WINDOW: u32 = 64;
/// Batches of one partition that may wait for their level.
pub const LOG_ACKS_WAITING_MAX: usize = 64 * 1024;
/// Bytes read from a log at once for one lagging consumer, unless one frame is larger.
pub const LOG_READ_BYTES: u32 = 256 * KIB;
/// Such reads of one shard at once.
pub const LOG_READERS: usize = 16;
/// How often what a disk refuses to read is tried, a second apart, before consumers are told that it is lost.
pub const LOG_READ_TRIES: u8 = 5;
/// Entries of one segment's sparse index: as much is searched in memory as a segment's length by this.
pub const SEGMENT_INDEX_ENTRIES: usize = 128;
/// Committed offsets one partition keeps by consumer name.
pub const COMMITTED_NAMES_PER_PARTITION: u32 = 256;

/// Bytes of a shard's shared receive ring: the hot set (FIELD notes: 1 MiB, never grown).
pub const SHARED_RING_BYTES: u32 = 1024 * KIB;
/// Buffers of the shared ring where the kernel consumes them incrementally.
pub const SHARED_BUFFERS_INCREMENTAL: u16 = 4;
/// Buffers of the shared ring where each completion takes a whole one.
pub const SHARED_BUFFERS_PLAIN: u16 = 16;
/// Regions for bulk connections, each at least this large.
pub const BULK_REGION_BYTES: u32 = 256 * KIB;
/// Bulk connections with a region of their own, by default and at most.
pub const BULK_REGIONS_DEFAULT: u16 = 4;
/// See [`BULK_REGIONS_DEFAULT`].
pub const BULK_REGIONS_MAX: u16 = 16;
/// Frames at least this large make a connection a candidate for a region: batches of 16 KiB do, which end a record
/// before they would pass that.
pub const BULK_FRAME_BYTES: u32 = 12 * KIB;
/// Bytes of the arena for frames that straddle pieces of receive memory.
pub const STRADDLE_ARENA_BYTES: u32 = 16 * 1024 * KIB;
/// Smallest block of the straddle arena.
pub const STRADDLE_BLOCK_BYTES_MIN: u32 = 1024;
/// Bytes of a `memory` partition's ring by default.
pub const RETENTION_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// Smallest ring of a `memory` partition.
pub const RETENTION_BYTES_MIN: u64 = 1024 * 1024;
/// Bytes of a `live` partition's ring for the unsent remainder of laggards.
pub const LAGGING_BYTES_DEFAULT: u64 = 4 * 1024 * 1024;
/// Bytes of a `log` partition's ring by default: what is served without the disk, and what may wait to be written.
pub const LOG_RING_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;
/// Smallest ring of a `log` partition: a few flushes of the largest size.
pub const LOG_RING_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Length of a segment's file by default.
pub const LOG_SEGMENT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// Shortest file of a segment.
pub const LOG_SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
/// Longest file of a segment.
pub const LOG_SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Bytes a `log` partition keeps by default.
pub const LOG_RETENTION_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;
/// Most bytes a `log` partition may be asked to keep.
pub const LOG_RETENTION_BYTES_MAX: u64 = 1 << 50;
/// Bytes written to a partition's log between two of its snapshots, by default.
pub const LOG_SNAPSHOT_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;
/// One shard's memory for reading segments that consumers lag behind in, by default.
pub const LOG_READ_BYTES_DEFAULT: u32 = 8 * 1024 * KIB;
/// Memory that recovery reads through at the start, of all its threads, by default.
pub const LOG_RECOVERY_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;
/// Regions one thread can address: every partition's ring, and each shard's shared ring, block arena and bulk
/// regions.
pub const REGIONS_MAX: usize = 8192;
/// Bytes of a partition's ring between two entries of its index, at least ...
pub const INDEX_GRANULE_BYTES_MIN: u64 = 16 * 1024;
/// ... and so many that a full ring needs no more entries than this.
pub const INDEX_ENTRIES_MAX: u64 = 4096;
/// Runs of frames a `live` partition holds at once.
pub const LIVE_RUNS_MAX: usize = 1024;

/// Bytes of a flush of the log, or of one frame if that is larger; at most a quarter of the ring.
pub const FLUSH_BYTES_MAX: u64 = 4 * 1024 * KIB as u64;
/// Writes of one partition's log in flight.
pub const LOG_WRITES_IN_FLIGHT: usize = 4;
/// Bytes of one shard's memory for small flushes on their way to the disk.
pub const LOG_WRITE_MEMORY_BYTES: u32 = 2 * 1024 * KIB;

/// Operations that are queued before the kernel is told of them; more of them in one tick tell it sooner.
pub const SUBMISSIONS_PER_TICK: u32 = 1024;
/// Completions of one tick.
pub const COMPLETIONS_PER_TICK: usize = 1024;
/// Spans of one vectored send.
pub const SPANS_PER_SEND: usize = 64;
/// Bytes of one vectored send.
pub const SEND_BYTES_MAX: u32 = 1024 * KIB;
/// Bytes of frames sealed for one send of a connection that speaks TLS; with their records a little less than 256 KiB.
pub const SEALED_SEND_BYTES_MAX: u32 = 240 * KIB;
/// Bytes of the memory that one shard seals records to, at least.
pub const SEND_MEMORY_BYTES: u32 = 16 * 1024 * KIB;
/// Bytes of the ring that one shard opens records to, at least.
pub const OPENED_RING_BYTES: u32 = 1024 * KIB;
/// Sends in flight of one shard.
pub const SENDS_IN_FLIGHT: usize = 1024;
/// Files one shard has open: for each of its partitions of kind `log` the segment that is written to, the one that was
/// and the one that will be, and those that are read.
pub const FILES_PER_SHARD: usize = 16 * 1024;
/// Operations on files one shard has in flight: the writes and the sync of each partition there can be, and the reads.
#[allow(clippy::cast_possible_truncation)] // few of either
pub const FILE_OPS_PER_SHARD: u32 = PARTITIONS_MAX * (LOG_WRITES_IN_FLIGHT as u32 + 1) + LOG_READERS as u32;
/// Messages of one mesh ring.
pub const MESH_RING_MESSAGES: usize = 1024;
/// Bytes of one block for a connection's control frames (acks, replies).
pub const CONTROL_BLOCK_BYTES: u32 = 4 * KIB;

/// A channel's first grant where few share the partition: what a channel holds that has never published.
pub const CREDIT_STARTER_BYTES: u64 = 64 * KIB as u64;
/// The least grant, however many share the partition.
pub const CREDIT_LEAST_BYTES: u64 = 4 * KIB as u64;
/// A busy channel's grant.
pub const CREDIT_CHANNEL_BYTES: u64 = 1024 * KIB as u64;
/// A consumer's credit where it names none.
pub const CREDIT_CONSUMER_BYTES: u64 = 4 * 1024 * KIB as u64;

/// Time to a complete hello.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 5_000;
/// Time for a frame that has begun to arrive whole.
pub const FRAME_TIMEOUT_MS: u64 = 10_000;
/// Time without a byte after which a connection is closed; clients ping at a third of it.
pub const IDLE_TIMEOUT_MS: u64 = 120_000;
/// Time a drain may take.
pub const DRAIN_DEADLINE_MS: u64 = 10_000;

/// Connections of the admin address.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Bytes of an admin request's head.
pub const ADMIN_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Bytes of an admin request's body.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 * 1024;
/// Time for an admin request to arrive, and for its answer to be taken.
pub const ADMIN_REQUEST_TIMEOUT_MS: u64 = 10_000;
/// Time an admin connection may be idle.
pub const ADMIN_IDLE_TIMEOUT_MS: u64 = 60_000;
/// Time the shards may take to answer control.
pub const SHARD_ANSWER_TIMEOUT_MS: u64 = 5_000;
/// Committed offsets and reservations are saved this long after the first that is not.
pub const CATALOGUE_SAVE_MS: u64 = 200;
/// From one look at the certificates' files to the next.
pub const TLS_LOOK_MS: u64 = 2_000;
/// After a look that found files that cannot be used, before the one that says so: whoever writes them may be in the
/// middle of it.
pub const TLS_SETTLE_MS: u64 = 500;
/// Certificates of a server, beside the first.
pub const TLS_CERTIFICATES_MAX: usize = 64;
/// Files of revocation lists.
pub const TLS_REVOCATION_LISTS_MAX: usize = 64;
/// Bytes of early data of one handshake.
pub const TLS_EARLY_DATA_BYTES_DEFAULT: u32 = 16 * 1024;
/// The same at least.
pub const TLS_EARLY_DATA_BYTES_MIN: u32 = 1024;
/// The same at most.
pub const TLS_EARLY_DATA_BYTES_MAX: u32 = 48 * 1024;
/// Sessions remembered for early data.
pub const TLS_EARLY_DATA_SESSIONS_DEFAULT: u32 = 4096;
/// The same at most.
pub const TLS_EARLY_DATA_SESSIONS_MAX: u32 = 262_144;
/// Segments' files that control makes or opens at once.
pub const LOG_FILES_AT_ONCE: usize = 4;
/// A segment's file that could not be made is tried again after this long.
pub const LOG_SPACE_RETRY_MS: u64 = 1_000;
/// From one look for segments that have become too old to the next.
pub const LOG_RETENTION_LOOK_MS: u64 = 5_000;
/// A new topic's first files are filled with zeros where they are no larger than this together.
pub const LOG_ZEROED_AT_ONCE_BYTES: u64 = 1024 * 1024 * 1024;
/// Time that what a backup copies stays, unless it is renewed, where the backup asks for no other.
pub const LOG_BACKUP_LEASE_MS: u64 = 60_000;
/// The shortest there is.
pub const LOG_BACKUP_LEASE_MS_MIN: u64 = 1_000;
/// The longest.
pub const LOG_BACKUP_LEASE_MS_MAX: u64 = 3_600_000;
/// Time for what the shards have reported of their logs to be written, at the end.
pub const LOG_SETTLE_MS: u64 = 10_000;
/// Bytes of all partitions' rings by default.
pub const RETENTION_BUDGET_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;
/// Time between one kick and the next of control at messages whose ring was full.
pub const MESH_RETRY_MS: u64 = 5;
/// Messages that control keeps for one shard whose ring is full.
pub const CONTROL_BACKLOG_MESSAGES: usize = 16 * 1024;

const KIB: u32 = 1024;

const _: () = {
    assert!(HEADER_BYTES.is_multiple_of(FRAME_ALIGN_BYTES));
    assert!(FRAME_BYTES_MAX_FLOOR <= FRAME_BYTES_MAX_DEFAULT);
    assert!(FRAME_BYTES_MAX_DEFAULT <= FRAME_BYTES_MAX_CEILING);
    // A region holds the largest frame and one read of the same size.
    assert!(BULK_REGION_BYTES >= 2 * FRAME_BYTES_MAX_DEFAULT);
    // The shared ring holds a partial frame of the largest size and still receives for others.
    assert!(SHARED_RING_BYTES >= 4 * FRAME_BYTES_MAX_DEFAULT);
    assert!(SHARED_RING_BYTES.is_multiple_of(SHARED_BUFFERS_PLAIN as u32));
    assert!(REGIONS_MAX >= PARTITIONS_MAX as usize + SHARDS_MAX * (6 + 2 * BULK_REGIONS_MAX as usize));
    assert!(FILES_PER_SHARD >= 4 * PARTITIONS_MAX as usize);
    assert!(SEND_MEMORY_BYTES >= 2 * FRAME_BYTES_MAX_CEILING + SEND_BYTES_MAX);
    assert!(STRADDLE_BLOCK_BYTES_MIN.is_power_of_two());
    assert!(STRADDLE_ARENA_BYTES.is_multiple_of(STRADDLE_BLOCK_BYTES_MIN));
    assert!(STRADDLE_ARENA_BYTES >= 2 * FRAME_BYTES_MAX_CEILING);
    // The idempotence table remembers at least what may be in flight.
    assert!(DEDUP_WINDOW >= INFLIGHT_BATCHES_MAX);
    // The smallest memory ring holds a few of the largest default frames.
    assert!(RETENTION_BYTES_MIN >= 4 * FRAME_BYTES_MAX_DEFAULT as u64);
    assert!(LOG_RING_BYTES_MIN >= RETENTION_BYTES_MIN && LOG_RING_BYTES_MIN <= LOG_RING_BYTES_DEFAULT);
    assert!(LOG_SEGMENT_BYTES_MIN >= 4 * FRAME_BYTES_MAX_DEFAULT as u64);
    assert!(LAGGING_BYTES_DEFAULT >= 4 * FRAME_BYTES_MAX_DEFAULT as u64);
    assert!(CONTROL_BLOCK_BYTES as usize >= HEADER_BYTES * 16);
    assert!(CONTROL_BODY_BYTES_MAX + HEADER_BYTES_U32 <= FRAME_BYTES_MAX_FLOOR);
    // Each control body has room for its texts beside a table of at most 256 bytes.
    assert!(PEER_NAME_BYTES_MAX + TOKEN_BYTES_MAX + 256 <= CONTROL_BODY_BYTES_MAX as usize);
    assert!(TOPIC_NAME_BYTES_MAX + CONSUMER_NAME_BYTES_MAX + 256 <= CONTROL_BODY_BYTES_MAX as usize);
    // What the server sends unasked fits in one control block.
    assert!(HEADER_BYTES + DETAIL_BYTES_MAX + 256 <= CONTROL_BLOCK_BYTES as usize);
    assert!(SPANS_PER_SEND <= 1024); // UIO_MAXIOV
    assert!(TENANTS_MAX <= 1 << 16); // TenantId is a u16
    assert!(TENANT_NAME_BYTES_MAX <= PEER_NAME_BYTES_MAX); // welcome tells it
    // Every topic can be announced to a shard that does not read for a while.
    assert!(CONTROL_BACKLOG_MESSAGES >= 4 * TOPICS_MAX as usize);
};
