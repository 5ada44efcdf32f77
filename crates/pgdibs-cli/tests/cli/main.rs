//! The command line against a scripted daemon: the behaviour of the client. The end-to-end tests use real daemons.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the place and the value")]

mod calls;
mod events;
mod process;
mod psql;
mod run;
mod signals;
mod stub;
mod templates;
mod transfer;
