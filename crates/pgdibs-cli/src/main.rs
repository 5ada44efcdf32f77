//! The program `pgdibs`.

use std::process::ExitCode;

/// It gives the memory of a burst of requests back to the system; see docs/internals/decisions.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pgdibs_cli::main()
}
