//! What a program says to callgrind while it runs under it: count from here, to here, and write the sum down.
//!
//! A client request is a sequence of instructions that does nothing on a processor and that valgrind recognises
//! (valgrind manual, "The Client Request mechanism"). Counting begins switched off (`--collect-atstart=no`), so what
//! is counted is what [`counted`] runs, less what [`uncounted`] runs within it. State: whether counting is on, of
//! this thread, which is the only one that counts.

use std::cell::Cell;

/// Numbers of the requests: valgrind's own, and callgrind's, which begin at 'C' 'T'.
const RUNNING_ON_VALGRIND: usize = 0x1001;
const CALLGRIND: usize = 0x4354_0000;
const TOGGLE_COLLECT: usize = CALLGRIND + 2;
const DUMP_STATS_AT: usize = CALLGRIND + 3;

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this program is run by valgrind.
#[must_use]
pub fn is_watching() -> bool {
    request(RUNNING_ON_VALGRIND, 0) != 0
}

/// Runs `what` with counting switched on.
///
/// # Panics
/// When counting is on already.
pub fn counted(what: impl FnOnce()) {
    assert!(!COUNTING.replace(true), "counted once at a time");
    request(TOGGLE_COLLECT, 0);
    what();
    request(TOGGLE_COLLECT, 0);
    COUNTING.set(false);
}

/// Runs `what` with counting switched off, in the midst of what is counted or outside of it.
#[inline]
pub fn uncounted<T>(what: impl FnOnce() -> T) -> T {
    if !COUNTING.replace(false) {
        return what();
    }
    request(TOGGLE_COLLECT, 0);
    let result = what();
    request(TOGGLE_COLLECT, 0);
    COUNTING.set(true);
    result
}

/// Makes callgrind write what was counted since the last time to a file of its own, under this name.
pub fn write_down(name: &std::ffi::CStr) {
    request(DUMP_STATS_AT, name.as_ptr().addr());
}

/// Asks valgrind; 0 where there is none.
#[inline]
fn request(code: usize, argument: usize) -> usize {
    let question = [code, argument, 0, 0, 0, 0];
    ask(&question)
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ask(question: &[usize; 6]) -> usize {
    let mut answer = 0_usize;
    // SAFETY: the rotations add up to 128 bits and leave rdi as it was, the exchange is of a register with itself:
    // on a processor this changes nothing but flags. Valgrind reads the six words at rax, which live over the
    // call, and sets rdx; it reads what the argument points to, a string that outlives the request.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") question.as_ptr(),
            inout("rdx") answer,
            options(nostack),
        );
    }
    answer
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn ask(question: &[usize; 6]) -> usize {
    let mut answer = 0_usize;
    // SAFETY: as above: rotations of x12 by 128 bits in all, and x10 or-ed with itself; valgrind reads at x4 and
    // sets x3.
    unsafe {
        std::arch::asm!(
            "ror x12, x12, #3", "ror x12, x12, #13", "ror x12, x12, #51", "ror x12, x12, #61", "orr x10, x10, x10",
            in("x4") question.as_ptr(),
            inout("x3") answer,
            options(nostack),
        );
    }
    answer
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn ask(_question: &[usize; 6]) -> usize {
    0
}
