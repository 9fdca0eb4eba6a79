use super::*;
use std::sync::Arc;

fn attached(mapping: Mapping) -> Memory {
    let mut memory = Memory::new();
    memory.attach(RegionId(0), Arc::new(mapping));
    memory
}

#[test]
fn a_mirrored_mapping_shows_the_same_memory_twice() {
    let mapping = Mapping::mirrored(10_000, Pages::Small).unwrap();
    assert_eq!((mapping.bytes(), mapping.address_bytes()), (12_288, 24_576));
    assert!(mapping.is_mirrored());
    let mut memory = attached(mapping);
    memory.bytes_mut(span(0, 12_280, 16)).copy_from_slice(b"0123456789abcdef");
    assert_eq!(memory.bytes(span(0, 0, 8)), b"89abcdef");
    assert_eq!(memory.bytes(span(0, 12_280, 8)), b"01234567");
    assert_eq!(memory.bytes(span(0, 24_568, 8)), b"01234567");
    // From the first copy to the second, in every page.
    for page in 0..3 {
        memory.bytes_mut(span(0, page * 4096 + 77, 1))[0] = 0xa5;
        assert_eq!(memory.bytes(span(0, 12_288 + page * 4096 + 77, 1)), [0xa5]);
    }
}

#[test]
fn a_plain_mapping_is_zeroed_and_whole_pages_long() {
    let mapping = Mapping::plain(4097, Pages::Small).unwrap();
    assert_eq!((mapping.bytes(), mapping.address_bytes()), (8192, 8192));
    assert!(!mapping.is_mirrored() && !mapping.huge());
    assert!(attached(mapping).bytes(span(0, 0, 8192)).iter().all(|&byte| byte == 0));
}

#[test]
fn huge_pages_are_used_or_done_without() {
    // Which of the two depends on the host; both must work, and what does not fit huge pages never has them.
    let free_huge_pages = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free_huge_pages = free_huge_pages.map_or(0, |text| text.trim().parse::<u64>().unwrap());
    for make in [Mapping::plain, Mapping::mirrored] {
        let mapping = make(2 * HUGE_PAGE_BYTES, Pages::HugeIfAvailable).unwrap();
        assert_eq!(mapping.bytes(), 2 * HUGE_PAGE_BYTES);
        assert!(mapping.huge() || free_huge_pages < 4, "{free_huge_pages} huge pages are free");
        assert!(!mapping.huge() || (mapping.base() as usize).is_multiple_of(HUGE_PAGE_BYTES));
        mapping.prefault();
        let mirrored = mapping.is_mirrored();
        let mut memory = attached(mapping);
        let last = 2 * HUGE_PAGE_BYTES as u64 - 1;
        memory.bytes_mut(span(0, last, 1))[0] = 7;
        assert!(!mirrored || memory.bytes(span(0, 2 * last + 1, 1)) == [7]);

        assert!(!make(HUGE_PAGE_BYTES + 4096, Pages::HugeIfAvailable).unwrap().huge());
        assert!(!make(HUGE_PAGE_BYTES, Pages::Small).unwrap().huge());
    }
}

#[test]
fn prefaulting_makes_every_page_present_and_changes_none() {
    let ways: [fn(&Mapping); 2] = [Mapping::prefault, Mapping::touch];
    for prefault in ways {
        let mapping = Arc::new(Mapping::mirrored(64 * 4096, Pages::Small).unwrap());
        let mut memory = Memory::new();
        memory.attach(RegionId(0), Arc::clone(&mapping));
        memory.bytes_mut(span(0, 5 * 4096, 3)).copy_from_slice(b"abc");
        assert!(resident_pages(&mapping) < 10);
        prefault(&mapping);
        assert_eq!(resident_pages(&mapping), 128);
        assert_eq!(memory.bytes(span(0, 5 * 4096, 4)), b"abc\0");
        assert_eq!(memory.bytes(span(0, 69 * 4096, 4)), b"abc\0");
    }
}

/// Pages of the mapping that this process has mapped, both copies: bit 63 of `/proc/self/pagemap`, proc(5).
fn resident_pages(mapping: &Mapping) -> usize {
    use std::os::unix::fs::FileExt;
    let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
    let mut entries = vec![0; mapping.address_bytes() / 4096 * 8];
    pagemap.read_exact_at(&mut entries, (mapping.base() as usize / 4096 * 8) as u64).unwrap();
    entries.as_chunks::<8>().0.iter().filter(|entry| entry[7] & 0x80 != 0).count()
}

#[test]
fn dropping_gives_addresses_and_descriptors_back() {
    // More of each than a process may have by default (vm.max_map_count, ulimit -n).
    for _ in 0..40_000 {
        let mirrored = Mapping::mirrored(4096, Pages::Small).unwrap();
        let plain = Mapping::plain(4096, Pages::Small).unwrap();
        drop((mirrored, plain));
    }
}

#[test]
fn a_refusal_names_the_step_the_error_and_the_remedy() {
    for bytes in [0, usize::MAX] {
        let error = Mapping::mirrored(bytes, Pages::Small).unwrap_err();
        assert_eq!(error.step, MapStep::Size);
    }
    // Within what is accepted, beyond what x86-64 or arm64 can address twice.
    let error = Mapping::mirrored(1 << 46, Pages::Small).unwrap_err();
    assert_ne!(error.step, MapStep::Size);
    assert!(error.source.raw_os_error().is_some());
    let text = error.to_string();
    assert!(text.contains("70368744177664 bytes") && text.contains("os error"), "{text}");
    assert!(text.ends_with(error.remedy()), "{text}");
}
