//! The pgdibs daemon and its command line, as a library, so that fuzz targets can reach what reads untrusted input. Reading order: the
//! modules as listed. Nothing outside this repository depends on it.

mod config;
mod endpoint_file;
mod service;
mod reconciler;
mod sources;
mod daemon;
mod http;
mod bench;
mod cli;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

pub use cli::main;
