//! The pgdibs daemon and its command line. Reading order: the modules as listed.

mod cli;
mod config;
mod daemon;
mod driver;
mod http;
mod service;
mod sources;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
