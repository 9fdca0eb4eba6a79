//! Every reason the server gives for refusing something: one table, from which the enum, its wire number,
//! its metric label, its retry rule and the protocol document's table come.

/// Who has to change something for the refused thing to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The peer broke the protocol or sent something malformed.
    Peer,
    /// The server, topic or partition is full or busy for now.
    Saturation,
    /// The peer asked for something it may not have or that does not exist.
    Request,
    /// The operator has paused, drained or limited something.
    Operator,
}

/// What a refusal costs the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The connection is closed after an `error` frame.
    Connection,
    /// One `open`, `subscribe` or `commit` is answered by an `error` frame; the connection goes on.
    Request,
    /// One batch is answered by a `nack`; the connection goes on.
    Batch,
}

macro_rules! codes {
    ($($variant:ident = $number:literal, $name:literal, $fault:ident, $scope:ident, $retry:literal, $text:literal;)*) => {
        /// A machine-readable reason. The numbers and names are part of the protocol and never reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Code { $(#[doc = $text] $variant = $number,)* }

        impl Code {
            /// Every code, in the order of its number.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The code with this wire number.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Code> {
                match number { $($number => Some(Code::$variant),)* _ => None }
            }

            /// The stable name, as in logs, metrics and `-o json`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// Who is at fault.
            #[must_use]
            pub const fn fault(self) -> Fault {
                match self { $(Code::$variant => Fault::$fault,)* }
            }

            /// What it costs the peer.
            #[must_use]
            pub const fn scope(self) -> Scope {
                match self { $(Code::$variant => Scope::$scope,)* }
            }

            /// Whether the same bytes sent again, later, may be accepted.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Code::$variant => $retry,)* }
            }

            /// One sentence for a person.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }
        }
    };
}

codes! {
    // Framing: the connection cannot go on.
    BadMagic = 1, "bad_magic", Peer, Connection, false, "The first two bytes of the header are not the protocol's magic number.";
    BadVersion = 2, "bad_version", Peer, Connection, false, "The header's version is not one this server speaks.";
    BadKind = 3, "bad_kind", Peer, Connection, false, "The header names a kind that does not exist.";
    ReservedNotZero = 4, "reserved_not_zero", Peer, Connection, false, "A reserved bit or byte is not zero.";
    BadHeaderChecksum = 5, "bad_header_checksum", Peer, Connection, false, "The header's checksum does not match its bytes.";
    BadLength = 6, "bad_length", Peer, Connection, false, "The body's length is not a multiple of 8, or not possible for this kind.";
    FrameTooLarge = 7, "frame_too_large", Peer, Connection, false, "The frame is larger than the server's frame_bytes_max.";
    UnexpectedKind = 8, "unexpected_kind", Peer, Connection, false, "A frame of this kind is not allowed from this side or before hello.";
    BadControlBody = 9, "bad_control_body", Peer, Connection, false, "The body of a control frame is not a well-formed table of its kind.";
    UnknownChannel = 10, "unknown_channel", Peer, Connection, false, "The channel was never opened on this connection, or has been released.";
    CreditOverrun = 11, "credit_overrun", Peer, Connection, false, "More bytes were sent on the channel than its credit allows.";
    BadControlChecksum = 12, "bad_control_checksum", Peer, Connection, false, "The body checksum of a control frame does not match its bytes.";
    HandshakeTimeout = 13, "handshake_timeout", Peer, Connection, true, "No complete hello arrived in time.";
    FrameTimeout = 14, "frame_timeout", Peer, Connection, true, "A frame began to arrive and was not complete in time.";
    IdleTimeout = 15, "idle_timeout", Peer, Connection, true, "Nothing arrived for longer than the idle time-out; send pings.";
    MidFrameDisconnect = 16, "mid_frame_disconnect", Peer, Connection, true, "The peer closed in the middle of a frame.";
    PeerReset = 17, "peer_reset", Peer, Connection, true, "The peer reset the connection.";
    TooManyConnections = 18, "too_many_connections", Saturation, Connection, true, "The server holds as many connections as it is configured for, or as its host lets it.";
    TooManyFromAddress = 19, "too_many_from_address", Saturation, Connection, true, "This address holds as many connections as one address may.";
    Unauthenticated = 20, "unauthenticated", Request, Connection, false, "The token is missing or not known.";
    ServerDraining = 21, "server_draining", Operator, Connection, true, "The server is shutting down; connect again later or elsewhere.";
    StraddleExhausted = 22, "straddle_exhausted", Saturation, Connection, true, "No memory was left for a frame that arrived in pieces.";
    BadHello = 23, "bad_hello", Peer, Connection, false, "hello arrived twice, or its contents are not acceptable.";
    ConsumerCreditInvalid = 24, "consumer_credit_invalid", Peer, Connection, false, "A consumer's credit went backwards.";
    PeerNotReading = 25, "peer_not_reading", Peer, Connection, true, "The peer does not read what it is answered, and its share of the server's memory for answers is full.";

    TlsFailed = 26, "tls_failed", Peer, Connection, true, "TLS failed: uringest_tls_failures_total has the reason, and the peer was told an alert where there is one.";

    // Requests: open, subscribe, commit.
    UnknownTopic = 40, "unknown_topic", Request, Request, false, "The topic does not exist and may not be created by clients.";
    UnknownPartition = 41, "unknown_partition", Request, Request, false, "The topic has no partition of that number.";
    BadName = 42, "bad_name", Request, Request, false, "The topic's or consumer's name is empty, too long, or has characters that are not allowed.";
    NotAuthorized = 43, "not_authorized", Request, Request, false, "The tenant's rules do not allow this on this topic.";
    ImpossibleAckLevel = 44, "impossible_ack_level", Request, Request, false, "The topic's kind cannot promise that acknowledgement level.";
    TooManyChannels = 45, "too_many_channels", Saturation, Request, false, "The connection holds as many channels as one connection may.";
    TooManySubscriptions = 46, "too_many_subscriptions", Saturation, Request, false, "The connection or partition holds as many subscriptions as it may.";
    TooManyProducers = 47, "too_many_producers", Saturation, Request, true, "The partition remembers as many active producers as it may.";
    TooManyTopics = 48, "too_many_topics", Saturation, Request, false, "The server holds as many topics or partitions as it may.";
    MemoryExhausted = 49, "memory_exhausted", Saturation, Request, false, "The topic's rings do not fit in the configured retention memory.";
    AlreadySubscribed = 50, "already_subscribed", Request, Request, false, "This connection is subscribed to that partition already.";
    BadStart = 51, "bad_start", Request, Request, false, "The start position is not one the protocol knows.";
    TopicDeleted = 52, "topic_deleted", Operator, Request, false, "The topic was deleted.";
    TooManyCommittedNames = 53, "too_many_committed_names", Saturation, Request, false, "The partition keeps as many committed names as it may.";
    NotSubscribed = 54, "not_subscribed", Request, Request, false, "There is no such subscription on this connection.";
    Unavailable = 55, "unavailable", Saturation, Request, true, "The server is too busy to answer this now.";

    // Batches.
    BadBodyChecksum = 70, "bad_body_checksum", Peer, Batch, false, "The body checksum does not match the batch's bytes.";
    BadBatch = 71, "bad_batch", Peer, Batch, false, "The body is not a well-formed batch.";
    EndsNotMonotonic = 72, "ends_not_monotonic", Peer, Batch, false, "A vector of ends decreases, or does not end where its bytes end.";
    CountMismatch = 73, "count_mismatch", Peer, Batch, false, "The header's record count is not the number of records in the batch.";
    EmptyBatch = 74, "empty_batch", Peer, Batch, false, "The batch holds no record.";
    TooManyRecords = 75, "too_many_records", Peer, Batch, false, "The batch holds more records than a batch may.";
    RecordTooLarge = 76, "record_too_large", Peer, Batch, false, "A record is larger than the server's record_bytes_max.";
    DeadlineExpired = 77, "deadline_expired", Request, Batch, false, "The batch's deadline had passed when it was read.";
    SequenceTooOld = 78, "sequence_too_old", Request, Batch, false, "The sequence is older than what the server remembers of this producer.";
    DuplicateMismatch = 79, "duplicate_mismatch", Request, Batch, false, "This sequence was accepted before with other bytes.";
    UnknownProducer = 80, "unknown_producer", Request, Batch, false, "The server no longer remembers this producer; open again with a new producer id.";
    ProducerFenced = 81, "producer_fenced", Request, Batch, false, "Another connection has opened the same producer id.";
    BatchTooLarge = 82, "batch_too_large", Request, Batch, false, "The batch does not fit in the partition's ring.";
    OutOfSequence = 83, "out_of_sequence", Request, Batch, true, "An earlier sequence has to be resent first.";
    RingFull = 84, "ring_full", Saturation, Batch, true, "The partition's ring is full and its policy is to reject.";
    BackPressure = 85, "back_pressure", Saturation, Batch, true, "A subscriber has yet to receive what is in the ring, and the topic's policy is to block.";
    TopicPaused = 86, "topic_paused", Operator, Batch, true, "The topic is paused.";
    Draining = 87, "draining", Operator, Batch, true, "The server is draining and takes no new batches.";
    NoSuchTopicNow = 88, "no_such_topic_now", Operator, Batch, false, "The topic was deleted while the channel was open.";
    DiskFull = 89, "disk_full", Saturation, Batch, true, "The disk, or the log's share of it, is full; the batch is taken once there is room.";
    PartitionFenced = 90, "partition_fenced", Operator, Batch, true, "The partition's log has failed and takes nothing until the server starts again; what was not acknowledged may or may not be there then.";
    Unspecified = 127, "unspecified", Request, Batch, false, "A reason that the reader's version has no number for.";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
