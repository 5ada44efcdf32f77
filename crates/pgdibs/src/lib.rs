//! Client of pgdibs: leases a clean Postgres database for a test.
#![warn(missing_docs)]

pub mod connection_url;
