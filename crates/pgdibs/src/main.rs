//! The pgdibs daemon and its command line.

mod cli;
#[allow(dead_code, unused_imports, reason = "wired into the driver where that is")]
mod config;
#[allow(dead_code, reason = "wired into the daemon where that is")]
mod service;
#[allow(dead_code, unused_imports, reason = "wired into the driver where that is")]
mod sources;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
