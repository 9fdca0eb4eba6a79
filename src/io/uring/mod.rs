//! The uring backend.
