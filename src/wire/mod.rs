//! FlatBuffers on the wire: the generated code (quarantined), verified and borrowed views over a batch, the
//! builder of batches, and the schemas themselves for export.
pub mod batch;
mod build;
pub mod export;
pub(crate) mod generated;
