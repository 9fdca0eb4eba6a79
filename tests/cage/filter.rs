//! The cage: a seccomp filter. It is the test's own, put on between fork and exec: it needs no rights, and nobody else is
//! in it.
#![allow(dead_code)] // each build uses a part

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::support::{feed, uringest};

const IO_URING_SETUP: u32 = 425;
pub const IO_URING_ENTER: u32 = 426;
pub const IO_URING_REGISTER: u32 = 427;
pub const ALL: &[u32] = &[IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// What a filter sees of a call (`struct seccomp_data`, seccomp(2)): its number, its architecture, and the lower half
/// of its first argument, which is a ring's entries.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ENTRIES_AT: u32 = 16;
/// Rings that are made to try things on have fewer entries, those of shards more.
const ENTRIES_TO_TRY: u32 = 64;

/// Steps of a filter (bpf(4) and seccomp(2)).
pub type Cage = Vec<libc::sock_filter>;

#[allow(clippy::cast_possible_truncation)] // codes are 16 bits wide
fn step(code: u32, value: u32, (skip_if, skip_else): (u8, u8)) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: skip_if, jf: skip_else, k: value }
}

fn load(at: u32) -> libc::sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, (0, 0))
}

/// Skips steps if what was loaded is the value, and others if not.
fn equal(value: u32, skip: (u8, u8)) -> libc::sock_filter {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, skip)
}

fn above(value: u32, skip: (u8, u8)) -> libc::sock_filter {
    step(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, value, skip)
}

fn answer(verdict: u32) -> libc::sock_filter {
    step(libc::BPF_RET | libc::BPF_K, verdict, (0, 0))
}

/// What becomes of a call that fails.
fn refused(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()
}

fn allow() -> libc::sock_filter {
    answer(libc::SECCOMP_RET_ALLOW)
}

/// A cage without bars.
pub fn open() -> Cage {
    vec![allow()]
}

/// These calls fail with this error; all others are as they were.
pub fn without(calls: &[u32], errno: i32) -> Cage {
    on(calls, refused(errno))
}

/// Whoever makes one of these calls is killed on the spot.
pub fn deadly(calls: &[u32]) -> Cage {
    on(calls, libc::SECCOMP_RET_KILL_PROCESS)
}

fn on(calls: &[u32], verdict: u32) -> Cage {
    let mut cage = vec![load(ARCHITECTURE_AT), equal(ARCHITECTURE, (1, 0)), allow(), load(NUMBER_AT)];
    for call in calls {
        cage.extend([equal(*call, (0, 1)), answer(verdict)]);
    }
    cage.push(allow());
    cage
}

/// Rings of the size that shards have fail with this error; those to try things on are made.
pub fn without_large_rings(errno: i32) -> Cage {
    vec![
        load(ARCHITECTURE_AT),
        equal(ARCHITECTURE, (1, 0)),
        allow(),
        load(NUMBER_AT),
        equal(IO_URING_SETUP, (0, 3)),
        load(ENTRIES_AT),
        above(ENTRIES_TO_TRY, (0, 1)),
        answer(refused(errno)),
        allow(),
    ]
}

/// Puts the command into the cage.
pub fn caged(mut command: Command, cage: &Cage) -> Command {
    let mut cage = cage.clone();
    let enter = move || {
        let len = u16::try_from(cage.len()).expect("a short program");
        let program = libc::sock_fprog { len, filter: cage.as_mut_ptr() };
        // SAFETY: the first call takes no pointer. The second reads `program` and the steps it points to, which the
        // closure owns; the kernel copies them. Neither allocates or locks, as must be between fork and exec.
        let results = unsafe {
            [
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            ]
        };
        if results == [0, 0] { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: what runs between fork and exec makes two system calls and nothing else.
    unsafe { command.pre_exec(enter) };
    command
}

/// Runs a command of the program in the cage to its end: exit code, standard output, standard error.
pub fn run_caged(args: &[&str], cage: &Cage) -> (Option<i32>, String, String) {
    let output = feed(&mut caged(uringest(args), cage), b"");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
