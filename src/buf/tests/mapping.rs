use super::super::mapping::Range;
use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Whether a reservation covers the page at this address.
fn reserved_at(address: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(" ---p ")).any(|line| {
        let (from, rest) = line.split_once('-').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        (number(from)..number(rest.split(' ').next().unwrap())).contains(&address)
    })
}

#[test]
fn what_a_failed_map_fixed_was_aimed_at_is_not_unmapped() {
    const HALF: usize = 5 << 30; // that no mapping of another test fits in what is left by chance
    for lost in 0..2 {
        let range = Range::reserved(2 * HALF, 4096).unwrap();
        let base = range.base() as usize;
        assert!(reserved_at(base) && reserved_at(base + HALF));
        range.give_up_half(lost);
        assert_eq!((reserved_at(base), reserved_at(base + HALF)), (lost == 0, lost == 1));
    }
    // A file that may not be written is refused before anything is unmapped: half of the reservation stays.
    let reservations = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains(" ---p ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = reservations();
    let file = std::fs::File::open("/proc/self/exe").unwrap().into();
    assert_eq!(Range::mirrored(HALF, &file, 4096).unwrap_err().step, MapStep::Map);
    assert_ne!(reservations(), before);
}

/// Huge pages that are refused leave a hole where they were to be, and other threads' memory lands in it. Where the host
/// has huge pages, this tests nothing.
#[test]
fn huge_pages_that_are_refused_cost_nobody_their_memory() {
    const THREADS: u64 = 4;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 1..=THREADS {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let mut memory = attached(Mapping::plain(HUGE_PAGE_BYTES, Pages::Small).unwrap());
                    let places = [0, HUGE_PAGE_BYTES as u64 / 2, HUGE_PAGE_BYTES as u64 - 8];
                    for at in places {
                        memory.bytes_mut(span(0, at, 8)).copy_from_slice(&thread.to_le_bytes());
                    }
                    for _ in 0..20 {
                        std::thread::yield_now();
                        for at in places {
                            assert_eq!(memory.bytes(span(0, at, 8)), thread.to_le_bytes());
                        }
                    }
                }
            });
        }
        for _ in 0..10_000 {
            drop(Mapping::mirrored(HUGE_PAGE_BYTES, Pages::HugeIfAvailable).unwrap());
        }
        done.store(true, Ordering::Relaxed);
    });
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
