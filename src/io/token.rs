//! What the shard writes into `user_data`: `{kind: 8 bits, generation: 24, index: 32}`.
//!
//! A slot's generation changes when the slot is freed, so that a late completion of the slot's former
//! owner is recognised and never attributed to the new one.

/// What an operation was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TokenKind {
    /// The backend's own.
    Wake = 0,
    /// `Op::Accept`; the index is the listener's.
    Accept = 1,
    /// `Op::ReceiveShared`; the index of this and all that follow is the connection's.
    Receive = 2,
    /// `Op::Read`.
    Read = 3,
    /// `Op::PollReadable`.
    Readable = 4,
    /// `Op::PollWritable`.
    Writable = 5,
    /// `Op::Send`.
    Send = 6,
    /// `Op::Cancel`.
    Cancel = 7,
    /// `Op::Close`.
    Close = 8,
    /// `Op::ShutdownWrite`.
    Shutdown = 9,
    /// `Op::WriteFile` or `Op::WriteFileDurably`; the index of this and those that follow is a log's.
    FileWrite = 10,
    /// `Op::SyncFile`.
    FileSync = 11,
    /// `Op::ReadFile`; the index is a reader's.
    FileRead = 12,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    /// The token of `Outcome::Woken`.
    pub const WAKE: Token = Token(0);

    /// Generations wrap at 24 bits.
    #[must_use]
    pub const fn new(kind: TokenKind, generation: u32, index: u32) -> Token {
        Token(((kind as u64) << 56) | (((generation & 0x00ff_ffff) as u64) << 32) | index as u64)
    }

    /// As the kernel carries it.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// From the kernel's hands; `None` when no such kind exists.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Token> {
        if raw >> 56 <= TokenKind::FileRead as u64 { Some(Token(raw)) } else { None }
    }

    /// What it was for.
    #[must_use]
    pub const fn kind(self) -> TokenKind {
        match self.0 >> 56 {
            0 => TokenKind::Wake,
            1 => TokenKind::Accept,
            2 => TokenKind::Receive,
            3 => TokenKind::Read,
            4 => TokenKind::Readable,
            5 => TokenKind::Writable,
            6 => TokenKind::Send,
            7 => TokenKind::Cancel,
            8 => TokenKind::Close,
            9 => TokenKind::Shutdown,
            10 => TokenKind::FileWrite,
            11 => TokenKind::FileSync,
            _ => TokenKind::FileRead,
        }
    }

    /// The generation of the slot when the operation was submitted.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // masked to 24 bits
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & 0x00ff_ffff
    }

    /// The slot.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // the low 32 bits are the index
    pub const fn index(self) -> u32 {
        self.0 as u32
    }
}
