//! The pgdibs daemon and its command line.

#[allow(
    dead_code,
    unused_imports,
    reason = "wired into the commands where those are"
)]
mod config;
#[allow(
    dead_code,
    unused_imports,
    reason = "wired into the driver where that is"
)]
mod sources;

fn main() {}
