//! Who may do what: see docs/architecture.md.
/// Tokens and rules.
#[derive(Debug)]
pub struct Access;
