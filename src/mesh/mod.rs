//! mesh: see docs/architecture.md.
