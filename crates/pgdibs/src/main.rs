//! The pgdibs daemon and its command line.
fn main() {}
