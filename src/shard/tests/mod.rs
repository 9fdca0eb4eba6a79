//! The shard in a scripted world: every split of the input, every refusal, where the bytes lie, and what several
//! shards do together.

mod answers;
mod bad_input;
mod clients;
mod closing;
mod consuming;
mod credit;
mod crossing;
mod draining;
mod flow;
mod levels;
mod log_rig;
mod logs;
mod outbox;
mod power;
mod random;
mod receive;
mod rig;
mod secured;
mod zero_copy;
