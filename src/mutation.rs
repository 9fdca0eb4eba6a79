//! Bugs that are put in on purpose, one at a time, to see that the simulator finds them (`cargo sim --mutation all`).
//!
//! Each is a mistake that somebody could make: a line that is missing, an account that is not kept, a promise that is
//! given too early. With a bug goes the assert that is nearest to it, so that what finds it are the promises to
//! clients and not the one line that was written for it. Only builds of the simulator know any of this; in others [`on`]
//! is `false` where it is compiled.

/// Declares the bugs: name on the command line, a seed that has found it, and what is wrong.
macro_rules! mutations {
    ($($variant:ident $name:literal $seed:literal $text:literal),* $(,)?) => {
        /// A bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(not(uringest_sim), allow(dead_code))] // elsewhere nothing lists them
        pub enum Mutation {
            $(#[doc = $text] $variant,)*
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Mutation] = &[$(Mutation::$variant),*];

            /// What it is called.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Mutation::$variant => $name,)* }
            }

            /// A seed that has found it. Changes of anything make it another, in time.
            #[must_use]
            pub const fn seed(self) -> u64 {
                match self { $(Mutation::$variant => $seed,)* }
            }

            /// What is wrong with it.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Mutation::$variant => $text,)* }
            }
        }
    };
}

mutations! {
    SkipRearm "skip-rearm" 16 "a receive that has found no buffer is not armed again",
    LoseCancelled "lose-cancelled" 33 "what a receive has taken that is being cancelled never goes back to the kernel",
    FreeSlotEarly "free-slot-early" 1 "a connection's slot is freed while the kernel works on its socket",
    ReceiveUnheld "receive-unheld" 3 "receive memory goes back to the kernel while frames in it are needed",
    FreeUnderSend "free-under-send" 23 "a log's ring is written again while it is sent from",
    DropUnderSend "drop-under-send" 3 "a ring that drops its oldest records drops what is being sent",
    ShortSendWhole "short-send-whole" 1 "a send that got rid of a part counts as whole",
    ResumeBefore "resume-before" 5 "a send goes on a byte before the place where the one before it ended",
    FreeUnderWrite "free-under-write" 31 "a log's ring is written again while it is written to the disk",
    ReuseToken "reuse-token" 1 "a log's writes have all the same token",
    ShortWriteWhole "short-write-whole" 8 "a write that wrote a part counts as whole",
    RestAtFront "rest-at-front" 8 "what a short write has left is written where it began",
    ShortReadWhole "short-read-whole" 51 "a read of a log's file that got a part counts as whole",
    AckBeforeSync "ack-before-sync" 14 "what is written counts as durable before it is synced",
    SyncCoversAll "sync-covers-all" 63 "a sync counts for what was written while it went on, too",
    IgnoreFailedSync "ignore-failed-sync" 32 "a sync that fails counts as one that has not",
    MixLevels "mix-levels" 23 "who waits for durable is told when it is written",
    AckDuplicateEarly "ack-duplicate-early" 1221 "a batch that comes again is acknowledged before the first is as safe as was asked",
    AckAhead "ack-ahead" 0 "acknowledgements stand for the batch behind those that were stored, too",
    ShowUnwritten "show-unwritten" 23 "consumers of a log get records before they are as safe as the topic asks",
    SnapshotEarly "snapshot-early" 63 "a snapshot is kept before the log that it tells of is durable",
    TakeTorn "take-torn" 11 "recovery takes a flush for whole of which a part was written",
    RecoverUnchecked "recover-unchecked" 53 "recovery takes frames whose body has another checksum",
    RecoverOneMore "recover-one-more" 1 "behind a recovery offsets go on one too high",
    ForgetWindow "forget-window" 8 "what became of a producer's last batches is not known behind a recovery",
    RetireOneMore "retire-one-more" 1 "a log's retention takes a segment more than is beyond its bytes",
    RetireYoung "retire-young" 2 "a log's retention takes segments long before their time",
    SyncAlone "sync-alone" 63 "after a sync that failed a start syncs a log again, and does not write it again",
    TakeTwice "take-twice" 10 "a batch that was stored before is stored again",
    TakeAhead "take-ahead" 1 "a batch is taken before the one that comes before it",
    SkipHeaderChecksum "skip-header-checksum" 2 "frames whose header has another checksum are taken",
    SkipBodyChecksum "skip-body-checksum" 2 "frames whose body has another checksum are taken",
    LoseCredit "lose-credit" 0 "the credit of a connection that ends is not given back",
    CreditTwice "credit-twice" 0 "what a consumer grants counts twice",
    GapUntold "gap-untold" 2 "consumers are not told of records that they do not get",
    GapShort "gap-short" 0 "a gap is told one record shorter than it is",
    CommitAhead "commit-ahead" 2 "who resumes begins a record behind what was committed",
    ForgetCommit "forget-commit" 2 "a commit is confirmed and not kept",
    CommitUnsaved "commit-unsaved" 63 "a commit is no reason to save",
    KeepPlace "keep-place" 46 "a consumer goes on in a topic that was made again where it was in the one before",
    IdsAgain "ids-again" 2 "a topic gets the partition ids of one that was deleted",
    RejectDrops "reject-drops" 2 "a ring that is to reject drops what its consumers have yet to receive",
    KeepFiles "keep-files" 37 "the files of a deleted topic's logs stay open",
    KeepFolder "keep-folder" 37 "the logs of a deleted topic stay, and their folders",
    LoseFile "lose-file" 2 "a file that a shard lets go is not closed",
    LoseTimer "lose-timer" 29 "of connections whose time comes at once one is forgotten",
    ListTwice "list-twice" 7 "a connection is listed again to have its receive armed although it is",
    KeepListed "keep-listed" 56 "a producer that goes stays in the queue of those that wait for credit",
    LoseAnswer "lose-answer" 65 "an answer to another shard is dropped where its ring is full",
    WakeNobody "wake-nobody" 2 "a shard that sleeps is not woken for a message",
    PauseOne "pause-one" 4 "of a topic that pauses one shard goes on",
    NameUnsynced "name-unsynced" 0 "the directory of a file that was replaced is not synced",
    SegmentUnsynced "segment-unsynced" 1 "the directory of a segment that was made is not synced",
    KeepGranted "keep-granted" 5 "the credit of another shard's producer that goes is not given back",
    KeepCounted "keep-counted" 34 "a connection that ends in its handshake stays counted",
    KeepOutbox "keep-outbox" 16 "what a connection that goes has yet to be told stays in memory",
    IdleForever "idle-forever" 1 "a connection on which nothing comes is never let go",
    BeyondCredit "beyond-credit" 3 "a consumer gets more than it has granted credit for",
    DrainTakes "drain-takes" 26 "a server that drains welcomes clients that it does not tell so",
    DrainUntold "drain-untold" 0 "clients are not told that the server drains",
    SnapshotForgets "snapshot-forgets" 10 "a snapshot leaves out the producer that was known first",
    SeekBeyond "seek-beyond" 10 "a search for an offset begins a flush behind it where that begins one behind the offset",
    KeepLent "keep-lent" 20 "a batch that another shard gives back stays in memory where its connection is gone",
    CommitForward "commit-forward" 22 "a commit that goes back is confirmed and not kept",
    KeepCleanEnd "keep-clean-end" 0 "where a clean stop left the offsets counts for every later start",
    FenceUntold "fence-untold" 8 "who waits for what a fenced log did not get is not told",
    NoRoomOnce "no-room-once" 19 "a write that found no room is not tried again",
    KeepToldNo "keep-told-no" 5 "a connection that was told no stays counted",
    KeepKey "keep-key" 35 "records are opened with the key that the peer has replaced",
}

#[cfg(uringest_sim)]
thread_local! {
    static ON: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
    static MET: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Puts one bug in, or none, for this thread.
#[cfg(uringest_sim)]
pub fn put_in(mutation: Option<Mutation>) {
    ON.set(mutation);
    MET.set(0);
}

/// How often the bug that is in was come upon since then. One that is not found and never met is not looked for in vain:
/// nothing leads there.
#[cfg(uringest_sim)]
#[must_use]
pub fn met() -> u64 {
    MET.get()
}

/// Whether this bug is in.
#[cfg(uringest_sim)]
#[inline]
pub(crate) fn on(mutation: Mutation) -> bool {
    let is_it = ON.get() == Some(mutation);
    MET.set(MET.get() + u64::from(is_it));
    is_it
}

/// Whether this bug is in: it is not.
#[cfg(not(uringest_sim))]
#[inline]
pub(crate) const fn on(_: Mutation) -> bool {
    false
}
