//! What `flatc` makes of `examples/schemas/sensor.fbs`: committed, never edited.
#![allow(
    missing_docs,
    unsafe_code,
    unused,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    unsafe_op_in_unsafe_fn
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_lossless
)]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]

#[rustfmt::skip]
mod sensor;

pub use sensor::sensors;
