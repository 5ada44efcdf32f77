//! The embedded server, with a real Postgres: how it starts, who may log in, who survives whom, what is refused.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, and helpers of tests are meant too")]

mod adopting;
mod public;
mod recovering;
mod refusing;
mod starting;
mod setup;
