//! The structure of a `Batch` table, walked and bounds-checked in place.
//!
//! A FlatBuffer is an offset to a table; the table begins with the (signed, subtracted) distance to its
//! vtable; the vtable holds its own length, the table's, and for each field the distance from the table to
//! it, 0 when absent; a vector field is the distance to its length, behind which its elements lie.
//! (flatbuffers.dev, "Internals".) Positions are aligned relative to the body's start, as every writer
//! does; memory itself need not be.

/// The vectors as bytes, in the schema's order. An absent optional vector is `None`.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    pub ends: &'a [u8],
    pub payload: &'a [u8],
    pub key_ends: Option<&'a [u8]>,
    pub keys: Option<&'a [u8]>,
    pub times: Option<&'a [u8]>,
    pub header_ends: Option<&'a [u8]>,
    pub headers: Option<&'a [u8]>,
    pub trace: &'a [u8],
    pub deadline_ns: u64,
}

/// The table a body is, or `None` when any part of it is missing, misaligned or out of bounds.
#[inline]
pub fn read(body: &[u8]) -> Option<Table<'_>> {
    let at = u32_at(body, 0)? as usize;
    let vtable = usize::try_from(i64::try_from(at).ok()? - i64::from(i32_at(body, at)?)).ok()?;
    let head = body.get(vtable..)?.first_chunk::<2>()?;
    let vtable_bytes = usize::from(u16::from_le_bytes(*head));
    if !at.is_multiple_of(4) || !vtable.is_multiple_of(2) || !vtable_bytes.is_multiple_of(2) {
        return None;
    }
    let fields = Fields { body, at, slots: body.get(vtable..vtable + vtable_bytes)?.get(4..)? };
    let deadline_ns = match fields.position(8) {
        Some(position) if !position.is_multiple_of(8) => return None,
        Some(position) => u64::from_le_bytes(*body.get(position..)?.first_chunk()?),
        None => 0,
    };
    Some(Table {
        ends: fields.vector::<4>(0)??,
        payload: fields.vector::<1>(1)??,
        key_ends: fields.vector::<4>(2)?,
        keys: fields.vector::<1>(3)?,
        times: fields.vector::<8>(4)?,
        header_ends: fields.vector::<4>(5)?,
        headers: fields.vector::<1>(6)?,
        trace: fields.vector::<1>(7)?.unwrap_or_default(),
        deadline_ns,
    })
}

/// A table's fields by their number in the schema.
struct Fields<'a> {
    body: &'a [u8],
    at: usize,
    /// The vtable behind its two lengths.
    slots: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Where field `number` is in the body, unless it is absent. May be out of bounds.
    #[inline]
    fn position(&self, number: usize) -> Option<usize> {
        let slot = self.slots.get(2 * number..)?.first_chunk::<2>()?;
        let distance = usize::from(u16::from_le_bytes(*slot));
        (distance != 0).then_some(self.at + distance)
    }

    /// Vector field `number` with elements of `ELEMENT` bytes: `None` when it is malformed, `Some(None)` when
    /// it is absent.
    #[inline]
    #[allow(clippy::option_option)] // two different questions
    fn vector<const ELEMENT: usize>(&self, number: usize) -> Option<Option<&'a [u8]>> {
        let Some(position) = self.position(number) else {
            return Some(None);
        };
        let length_at = position + u32_at(self.body, position)? as usize;
        let elements = u32_at(self.body, length_at)? as usize;
        let from = length_at + 4;
        if !position.is_multiple_of(4) || !length_at.is_multiple_of(4) || !from.is_multiple_of(ELEMENT) {
            return None;
        }
        let to = from.checked_add(elements.checked_mul(ELEMENT)?)?;
        self.body.get(from..to).map(Some)
    }
}

#[inline]
fn u32_at(body: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*body.get(at..)?.first_chunk()?))
}

#[inline]
fn i32_at(body: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(*body.get(at..)?.first_chunk()?))
}
