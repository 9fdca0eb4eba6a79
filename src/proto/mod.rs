//! The protocol, sans-io: frames, control tables, codes. `docs/protocol.md` is the specification.
pub mod checksum;
pub mod code;
pub mod control;
pub mod header;
