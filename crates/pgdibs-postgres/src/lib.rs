//! Postgres: all SQL, all DDL, the locks, and the embedded server of pgdibs.
//!
//! Only this crate knows sqlx, and only [`ddl`] puts identifiers into SQL text. Reading order: the modules as listed.

pub mod bench;
mod blockers;
mod catalog;
pub mod connect;
pub mod ddl;
pub mod embedded;
pub mod failpoint;
mod drop_blockers;
mod inside;
pub mod connection_pool;
pub mod leadership;
mod orphans;
pub mod membership;
mod public_connect;
pub mod purge;
mod requests;
pub mod rights;
mod rows;
pub mod scram;
mod source_database;
pub mod sqlstate;
mod steps;
pub mod backend;
