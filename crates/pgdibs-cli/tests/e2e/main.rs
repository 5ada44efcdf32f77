//! End-to-end tests: the program with a Postgres that the test starts, kills and restarts.
//!
//! Each test has a separate data directory or cluster and ends every process that it started. A failed test prints the place of
//! its logs.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the place and the value")]

mod arithmetic;
mod bad_configuration;
mod builds_by_clients;
mod builds_that_fail;
mod client_library;
mod command_line;
mod doctor;
mod expiry;
mod fence;
mod faults;
mod idle_connections;
mod lifecycle;
mod public_connect;
mod run_command;
mod secrets;
mod service_manager;
mod sources;
mod termination;
mod transfer;
mod two_daemons;

/// These take long: `make test-all` runs them, `make test` does not (see .config/nextest.toml).
mod long {
    mod bad_input;
    mod database_copies;
    mod failing_clones;
    mod given_server;
    mod killed_daemon;
    mod killed_postgres;
    mod slow;
}
