//! Committed offsets by consumer name: a short list, searched in order.

use crate::limits::{COMMITTED_NAMES_PER_PARTITION, CONSUMER_NAME_BYTES_MAX};
use crate::proto::code::Code;

/// At most `COMMITTED_NAMES_PER_PARTITION` names.
#[derive(Debug)]
pub(super) struct Committed(Vec<(String, u64)>);

impl Committed {
    /// As recovered; what is beyond the bound is left out.
    pub(super) fn new(mut recovered: Vec<(String, u64)>) -> Committed {
        recovered.truncate(COMMITTED_NAMES_PER_PARTITION as usize);
        Committed(recovered)
    }

    pub(super) fn entries(&self) -> &[(String, u64)] {
        &self.0
    }

    pub(super) fn offset_of(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| known == name).map(|&(_, offset)| offset)
    }

    /// Keeps `offset` under `name` and returns it.
    pub(super) fn set(&mut self, name: &str, offset: u64) -> Result<u64, Code> {
        if name.is_empty() || name.len() > CONSUMER_NAME_BYTES_MAX {
            return Err(Code::BadName);
        }
        if let Some((_, kept)) = self.0.iter_mut().find(|(known, _)| known == name) {
            *kept = offset;
            return Ok(offset);
        }
        if self.0.len() >= COMMITTED_NAMES_PER_PARTITION as usize {
            return Err(Code::TooManyCommittedNames);
        }
        self.0.push((name.to_owned(), offset));
        Ok(offset)
    }
}
