//! The command line against a daemon made of a script: what concerns the client itself. Real daemons are in the end-to-end tests.

#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps fails with the place and the value; that is what we want there"
)]

mod calls;
mod process;
mod psql;
mod run;
mod signals;
mod stub;
mod templates;
