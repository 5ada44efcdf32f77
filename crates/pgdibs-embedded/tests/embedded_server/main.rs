//! Tests of the embedded server with a real Postgres: start, logins, adoption, recovery, errors.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, and helpers of tests are meant too")]

mod adopting;
mod public;
mod recovering;
mod refusing;
mod starting;
mod setup;
