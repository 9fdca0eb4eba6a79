//! Bugs that are put in on purpose, one at a time, to see that the simulator finds them (`cargo sim --mutation all`).
//!
//! Each is a mistake that somebody could make: a line that is missing, an account that is not kept, a promise that is
//! given too early. With a bug goes the assert that is nearest to it, so that what finds it are the promises to
//! clients and not the one line that was written for it. Only builds of the simulator know any of this; in others [`on`]
//! is `false` where it is compiled.

/// Declares the bugs: name on the command line, and what is wrong.
macro_rules! mutations {
    ($($variant:ident $name:literal $text:literal),* $(,)?) => {
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

            /// What is wrong with it.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Mutation::$variant => $text,)* }
            }
        }
    };
}

mutations! {
    SkipRearm "skip-rearm" "a receive that has found no buffer is not armed again",
    FreeUnderSend "free-under-send" "a log's ring is written again while it is sent from",
    FreeUnderWrite "free-under-write" "a log's ring is written again while it is written to the disk",
    ReceiveUnheld "receive-unheld" "receive memory goes back to the kernel while frames in it are needed",
    AckBeforeSync "ack-before-sync" "what is written counts as durable before it is synced",
    IgnoreFailedSync "ignore-failed-sync" "a sync that fails counts as one that has not",
    ShowUnwritten "show-unwritten" "consumers of a log get records before they are as safe as the topic asks",
    ReuseGeneration "reuse-generation" "a connection's slot has the same generation as the one before in it",
    LoseCredit "lose-credit" "the credit of a connection that ends is not given back",
    SkipHeaderChecksum "skip-header-checksum" "frames whose header has another checksum are taken",
    SkipBodyChecksum "skip-body-checksum" "frames whose body has another checksum are taken",
    RecoverUnchecked "recover-unchecked" "recovery takes frames whose body has another checksum",
    TakeTwice "take-twice" "a batch that was stored before is stored again",
    ShortSendWhole "short-send-whole" "a send that got rid of a part counts as whole",
    GapUntold "gap-untold" "consumers are not told of records that they do not get",
    LoseAnswer "lose-answer" "an answer to another shard is dropped where its ring is full",
}

#[cfg(uringest_sim)]
thread_local! {
    static ON: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Puts one bug in, or none, for this thread.
#[cfg(uringest_sim)]
pub fn put_in(mutation: Option<Mutation>) {
    ON.set(mutation);
}

/// Whether this bug is in.
#[cfg(uringest_sim)]
#[inline]
pub(crate) fn on(mutation: Mutation) -> bool {
    ON.get() == Some(mutation)
}

/// Whether this bug is in: it is not.
#[cfg(not(uringest_sim))]
#[inline]
pub(crate) const fn on(_: Mutation) -> bool {
    false
}
