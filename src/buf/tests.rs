//! Tests of the parts that touch no memory run under Miri too; those of mappings do not.

#[cfg(not(miri))]
mod mapping;
