//! time: see docs/architecture.md.
