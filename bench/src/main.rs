//! The program: see the library.

fn main() -> std::process::ExitCode {
    uringest_bench::cli::main()
}
