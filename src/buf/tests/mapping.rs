use crate::buf::*;

#[test]
fn a_mirrored_mapping_shows_the_same_memory_twice() {
    let mapping = std::sync::Arc::new(Mapping::mirrored(10_000, Pages::Small).unwrap());
    assert_eq!(mapping.bytes(), 12_288);
    let mut memory = Memory::new();
    memory.attach(RegionId(3), mapping);
    let span = |at, bytes| Span { region: RegionId(3), at, bytes };
    memory.bytes_mut(span(12_280, 16)).copy_from_slice(b"0123456789abcdef");
    assert_eq!(memory.bytes(span(0, 8)), b"89abcdef");
    assert_eq!(memory.bytes(span(12_280, 8)), b"01234567");
    assert_eq!(memory.bytes(span(12_288 + 12_280, 8)), b"01234567");
}
