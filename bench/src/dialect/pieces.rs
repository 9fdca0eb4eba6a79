//! For the tests of dialects: answers that come in pieces.

use std::io;

/// Feeds `take` in pieces of so many bytes, giving again what it leaves, as the engine does.
pub(super) fn feed(
    stream: &[u8],
    piece: usize,
    mut take: impl FnMut(&[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut held = Vec::new();
    for bytes in stream.chunks(piece) {
        held.extend_from_slice(bytes);
        let used = take(&held)?;
        held.drain(..used);
    }
    assert!(held.is_empty(), "everything is used up in the end: {held:?}");
    Ok(())
}
