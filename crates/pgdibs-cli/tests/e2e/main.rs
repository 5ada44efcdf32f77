//! End to end: the program itself, with a Postgres that the test starts, kills and restarts.
//!
//! Each test has a data directory or a cluster of its own and ends what it started, also when it fails; then it says where the
//! logs are.

#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps fails with the place and the value; that is what we want there"
)]

mod arithmetic;
mod bad_configuration;
mod bad_input;
mod builds_by_clients;
mod builds_that_fail;
mod client_library;
mod command_line;
mod expiry;
mod fence;
mod faults;
mod idle_connections;
mod killed_daemon;
mod killed_postgres;
mod lifecycle;
mod public_connect;
mod run_command;
mod secrets;
mod slow;
mod service_manager;
mod sources;
mod support;
mod termination;
mod two_daemons;
