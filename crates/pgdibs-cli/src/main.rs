//! The program `pgdibs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgdibs_cli::main()
}
