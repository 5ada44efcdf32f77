//! The pgdibs daemon and its command line. Reading order: the modules as listed.

mod config;
mod whereabouts;
mod service;
mod driver;
mod sources;
mod daemon;
mod http;
mod bench;
mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
