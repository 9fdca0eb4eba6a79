//! All shards have the same backend, whichever of them it fails on.
#![cfg(all(feature = "uring", feature = "epoll"))] // where there is a choice

use super::*;
use crate::io::choice::BUILT;

fn refused(errno: i32) -> SetupError {
    let source = std::io::Error::from_raw_os_error(errno);
    SetupError { doing: "making the ring", source, remedy: "more of it".into() }
}

fn up(id: u16, backend: Backend) -> Up {
    let capabilities = Capabilities {
        backend: backend.name(),
        tier: 0,
        incremental_buffers: true,
        shared_buffers: 4,
        registered_regions: false,
        ring_messages: false,
        direct_descriptors: false,
    };
    Up { id: ShardId(id), wake: WakeHandle { event: None, ring_fd: -1 }, capabilities, degraded: Vec::new() }
}

/// What each thread was told to make.
type Told = Vec<Vec<Backend>>;

/// What becomes of three threads, of which `fails` says who cannot make what.
fn seated(fails: fn(u16, Backend) -> bool) -> (Result<(Chosen, Vec<Up>), StartError>, Told) {
    let (answer, answers) = std_mpsc::channel();
    let mut words = Vec::new();
    let threads: Vec<_> = (0..3)
        .map(|id| {
            let (word, told) = std_mpsc::channel();
            words.push(word);
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut made = Vec::new();
                while let Ok(Word::Make(backend)) = told.recv() {
                    made.push(backend);
                    let result =
                        if fails(id, backend) { Err(refused(libc::ENOMEM)) } else { Ok(up(id, backend)) };
                    answer.send(result).expect("waited for");
                }
                made
            })
        })
        .collect();
    let result = choose(BUILT, &words, &answers);
    drop(words);
    (result, threads.into_iter().map(|thread| thread.join().expect("no panic")).collect())
}

#[test]
fn the_first_is_taken_where_all_can_make_it() {
    let (result, told) = seated(|_, _| false);
    let (chosen, ups) = result.expect("a backend");
    assert_eq!((chosen.backend, chosen.refused), (BUILT[0], None));
    assert_eq!(ups.iter().map(|up| up.id.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(told, vec![vec![BUILT[0]]; 3]);
}

#[test]
fn where_one_cannot_make_it_all_make_the_next() {
    let (result, told) = seated(|id, backend| id == 1 && backend == Backend::Uring);
    let (chosen, ups) = result.expect("a backend");
    assert_eq!(chosen.backend, Backend::Epoll);
    assert!(chosen.refused.is_some_and(|detail| detail.contains("more of it")));
    assert!(ups.len() == 3 && ups.iter().all(|up| up.capabilities.backend == "epoll"));
    assert_eq!(told, vec![vec![Backend::Uring, Backend::Epoll]; 3]);
}

#[test]
fn where_none_can_be_made_the_last_refusal_is_told() {
    let (result, _) = seated(|id, _| id == 2);
    let error = result.err().expect("no backend");
    assert!(matches!(error, StartError::Io { backend: Backend::Epoll, .. }), "{error}");
    assert!(error.remedy().contains("more of it"), "{}", error.remedy());
}
