//! The backend on real Postgres: the conformance suite under each kind of rights, and the rules that only a real server can show.
//!
//! Every test starts a cluster of its own for each directory in `PGDIBS_TEST_PG_BIN_DIRS` (colon separated); without that
//! variable, of the Postgres that the daemon itself would find.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, and helpers of tests are meant too")]

mod acting_role;
mod beyond;
mod blockers;
mod builders;
mod catalog;
mod collations;
mod conformance;
mod connecting;
mod doctor;
mod extensions;
mod fence;
mod half_made;
mod isolation;
mod leading;
mod lending;
mod locales;
mod login_rights;
mod lost_catalog;
mod owners;
mod pulled_roles;
mod quoting;
mod restored_login;
mod roles_of_builds;
mod seals;
mod secrets;
mod support;
mod tests_own;
mod traps;

/// These take long: `make test-all` runs them, `make test` does not (see .config/nextest.toml).
mod long {
    mod copies;
    mod encodings;
    mod large;
    mod passing_time;
}
