//! The table of counters: one line each, from which the enum, the metric's name, its text on the metrics
//! page and the table in `docs/operations.md` come.

/// How a value behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its samples end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// What a value is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    None,
    /// Bytes.
    Bytes,
    /// Held in nanoseconds, shown in seconds.
    Seconds,
}

macro_rules! counters {
    ($($variant:ident, $family:literal, $kind:ident, $unit:ident, $help:literal;)*) => {
        /// What a shard counts. See [`super::CounterPage`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Counter { $(#[doc = $help] $variant,)* }

        impl Counter {
            /// Every counter, in the table's order.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Counter::ALL.len();

            /// The metric family's name: with the prefix and the unit, without `_total`.
            #[must_use]
            pub const fn family(self) -> &'static str {
                match self { $(Counter::$variant => concat!("uringest_", $family),)* }
            }

            /// Counter or gauge.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Counter::$variant => Kind::$kind,)* }
            }

            /// The unit.
            #[must_use]
            pub const fn unit(self) -> Unit {
                match self { $(Counter::$variant => Unit::$unit,)* }
            }

            /// One sentence for a person.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Counter::$variant => $help,)* }
            }
        }
    };
}

counters! {
    // The loop.
    Ticks, "ticks", Counter, None, "Ticks of the shard's loop.";
    BusyNs, "busy_seconds", Counter, Seconds, "Time spent in ticks, not waiting.";
    Sleeps, "sleeps", Counter, None, "Waits in the kernel.";
    Spins, "spins", Counter, None, "Looks for work without a system call, before a wait.";
    Completions, "completions", Counter, None, "Completions reaped.";
    CqOverflows, "completion_queue_overflows", Counter, None, "Times the completion queue was full and the kernel had to keep completions.";
    // In.
    BytesReceived, "received_bytes", Counter, Bytes, "Bytes received from clients, of any kind.";
    FramesReceived, "frames_received", Counter, None, "Frames received with a valid header.";
    BatchesAccepted, "batches_accepted", Counter, None, "Batches appended to a partition.";
    RecordsAccepted, "records_accepted", Counter, None, "Records in the batches appended.";
    PayloadBytesAccepted, "accepted_bytes", Counter, Bytes, "Frame bytes of the batches appended, headers included.";
    BatchesDuplicate, "batches_duplicate", Counter, None, "Batches sent again that had been appended before, and were acknowledged as such.";
    BatchesRefused, "batches_refused", Counter, None, "Batches refused; the reasons are in uringest_refusals_total.";
    AcksSent, "acks_sent", Counter, None, "Ack frames sent; one may acknowledge many batches.";
    NacksSent, "nacks_sent", Counter, None, "Nack frames sent.";
    CreditFramesSent, "credit_frames_sent", Counter, None, "Credit frames sent to producers.";
    CreditForgiven, "credit_forgiven", Counter, None, "Times a partition's room was promised again because producers made little use of their credit while others wanted some.";
    // Receive memory.
    ReceiveNoBuffers, "receive_no_buffers", Counter, None, "Times a receive ended because the shared ring had no buffer.";
    ReceiveRearms, "receive_rearms", Counter, None, "Receives armed again after they ended.";
    StraddleWaits, "straddle_waits", Counter, None, "Times a connection waited for a block for a frame that arrived in pieces.";
    ReceiveMemoryInUseBytes, "receive_memory_in_use_bytes", Gauge, Bytes, "Receive memory that something still refers to.";
    ControlMemoryInUseBytes, "control_memory_in_use_bytes", Gauge, Bytes, "Blocks of memory with control frames that wait to be sent.";
    Promotions, "promotions", Counter, None, "Connections given a receive region of their own.";
    Demotions, "demotions", Counter, None, "Connections moved back to the shared receive ring.";
    PromotedOpen, "promoted_connections", Gauge, None, "Connections that have a receive region of their own.";
    BulkReads, "bulk_reads", Counter, None, "Reads into such regions.";
    // Kept.
    LogWrites, "log_writes", Counter, None, "Writes to segments' files that have completed.";
    LogWrittenBytes, "log_written_bytes", Counter, Bytes, "Bytes of them: frames, headers and padding.";
    LogDurableWrites, "log_durable_writes", Counter, None, "Of the writes, those that were durable when they completed, without a sync.";
    LogSyncs, "log_syncs", Counter, None, "Syncs of segments' files that have completed.";
    LogSyncNs, "log_sync_seconds", Counter, Seconds, "Time from the submission of each of them to its completion.";
    LogReads, "log_reads", Counter, None, "Reads of segments' files for consumers that lag.";
    LogReadBytes, "log_read_bytes", Counter, Bytes, "Bytes of them.";
    LogReadsFailed, "log_reads_failed", Counter, None, "Reads that the disk refused, or whose file could not be opened: each is tried again for some seconds.";
    LogReadsDamaged, "log_reads_damaged", Counter, None, "Reads that found damage: what it covers is skipped, and consumers are told.";
    LogSegmentsClosed, "log_segments_closed", Counter, None, "Segments that take no more and are durable.";
    LogPartitionsFenced, "log_partitions_fenced", Gauge, None, "Partitions whose files have failed: they take nothing until the server starts again.";
    LogPartitionsFull, "log_partitions_full", Gauge, None, "Partitions without a file to go on in, because the disk, or the log's share of it, is full; they refuse batches when theirs is full.";
    LogMemoryInUseBytes, "log_memory_in_use_bytes", Gauge, Bytes, "Memory in use for small flushes and for what lagging consumers read.";
    RetainedBytes, "retained_bytes", Gauge, Bytes, "Frame bytes kept in the partitions' rings.";
    EvictedRecords, "evicted_records", Counter, None, "Records that left a ring to make room.";
    EvictedBytes, "evicted_bytes", Counter, Bytes, "Frame bytes that left a ring to make room.";
    GapRecords, "gap_records", Counter, None, "Records that a subscriber was told it missed, for each such subscriber.";
    Commits, "commits", Counter, None, "Offsets committed by consumers.";
    // Out.
    FramesDelivered, "frames_delivered", Counter, None, "Frames handed to consumers' sockets.";
    RecordsDelivered, "records_delivered", Counter, None, "Records handed to consumers' sockets.";
    BytesSent, "sent_bytes", Counter, Bytes, "Bytes sent to clients, of any kind.";
    Sends, "sends", Counter, None, "Send operations completed.";
    SendSpans, "send_spans", Counter, None, "Ranges of memory in those sends.";
    ShortSends, "short_sends", Counter, None, "Sends that took less than they were given.";
    SendBlocked, "send_blocked", Counter, None, "Times a socket took nothing more.";
    // Connections.
    Handshakes, "handshakes", Counter, None, "Handshakes completed.";
    ConnectionsOpened, "connections_opened", Counter, None, "Connections accepted or adopted from another shard.";
    ConnectionsClosed, "connections_closed", Counter, None, "Connections closed or moved to another shard.";
    ConnectionsOpen, "open_connections", Gauge, None, "Connections open.";
    ChannelsOpen, "open_channels", Gauge, None, "Producers' channels open.";
    Subscriptions, "subscriptions", Counter, None, "Subscriptions begun.";
    SubscriptionsOpen, "open_subscriptions", Gauge, None, "Subscriptions open.";
    AcceptErrors, "accept_errors", Counter, None, "Accepts that failed.";
    AcceptsPaused, "accepts_paused", Counter, None, "Times accepting was paused for want of room.";
    // TLS.
    TlsHandshakes, "tls_handshakes", Counter, None, "TLS handshakes completed.";
    TlsResumptions, "tls_resumptions", Counter, None, "Of these, handshakes that resumed a session.";
    TlsOpenedBytes, "tls_opened_bytes", Counter, Bytes, "Bytes of plaintext that records from clients were opened to.";
    TlsEarlyBytes, "tls_early_bytes", Counter, Bytes, "Of these, bytes that came before the handshake was over.";
    TlsSealedBytes, "tls_sealed_bytes", Counter, Bytes, "Bytes of plaintext that were sealed into records for clients.";
    SendMemoryInUseBytes, "send_memory_in_use_bytes", Gauge, Bytes, "Blocks of memory with sealed records that wait to be sent.";
    SendWaits, "send_waits", Counter, None, "Times a connection waited for a block to seal records to.";
    // Between shards.
    MovesOut, "moves_out", Counter, None, "Connections handed to another shard.";
    MovesIn, "moves_in", Counter, None, "Connections taken over from another shard.";
    MeshSent, "mesh_messages_sent", Counter, None, "Messages sent to other shards and control.";
    MeshReceived, "mesh_messages_received", Counter, None, "Messages received from other shards and control.";
    MeshFull, "mesh_full", Counter, None, "Times a message waited because its ring was full.";
    WakesSent, "wakes_sent", Counter, None, "Sleeping peers woken.";
    WakesReceived, "wakes_received", Counter, None, "Times woken by a peer.";
}

impl Counter {
    /// The name of the sample, as a query has it.
    #[must_use]
    pub fn sample(self) -> String {
        match self.kind() {
            Kind::Counter => format!("{}_total", self.family()),
            Kind::Gauge => self.family().to_owned(),
        }
    }
}
