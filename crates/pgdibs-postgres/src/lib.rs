//! Postgres: all SQL, all DDL, the locks of pgdibs.
//!
//! Only this crate knows sqlx, and only [`ddl`] puts identifiers into SQL text. Reading order: the modules as listed, from the bottom to
//! the top; none imports one that stands below it in the list.

mod failpoint {
    pub(crate) use pgdibs_failpoint::{Point, reach};
}
pub mod sqlstate;
pub mod scram;
pub mod rights;
pub mod ddl;
pub mod public_connect;
pub mod facts;
mod address;
mod inside;
pub mod connection_pool;
mod connections;
mod watch;
mod shared_sql;
mod handed_over;
mod rows;
mod context;
mod catalog;
mod leftovers;
mod blockers;
mod steps;
pub mod connect;
mod requests;
pub mod leadership;
pub mod membership;
mod orphans;
mod drop_blockers;
mod source_database;
pub mod backend;
pub mod purge;
