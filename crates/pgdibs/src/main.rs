//! The pgdibs daemon and its command line.

mod config;
mod http;
mod service;
mod sources;

fn main() {}
