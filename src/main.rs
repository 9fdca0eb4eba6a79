//! The `uringest` program.

// Under AddressSanitizer it is the system's: that of mimalloc takes pages of which the sanitizer knows nothing.
#[cfg(not(uringest_asan))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    uringest::cli::main(std::env::args_os())
}
