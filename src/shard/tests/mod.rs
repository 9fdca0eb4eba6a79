//! The shard in a scripted world: every split of the input, every refusal, and where the bytes lie.

mod bad_input;
mod flow;
mod receive;
mod rig;
mod zero_copy;
