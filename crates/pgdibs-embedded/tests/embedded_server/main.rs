//! Tests of the embedded server with a real Postgres: start, logins, adoption, recovery, errors.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, and helpers of tests are meant too")]

mod adopting;
mod public;
mod starting;
mod setup;

/// These take long: `make test-all` runs them, `make test` does not (see .config/nextest.toml).
mod long {
    mod recovering;
    mod refusing;
}
