//! The pgdibs daemon and its command line.

mod config;
mod service;
mod sources;

fn main() {}
