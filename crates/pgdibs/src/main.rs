//! The pgdibs daemon and its command line.
mod service;
fn main() {}
