//! Postgres: all SQL, all DDL, the locks of pgdibs.
//!
//! Only this crate knows sqlx, and only [`ddl`] puts identifiers into SQL text. Reading order: the modules as listed, from the bottom to
//! the top; none imports one that stands below it in the list. Long statements are in `sql/`.

#![allow(
    missing_docs,
    reason = "a crate of this workspace alone: an item has a comment where its name and its type do not say it"
)]

pub mod sqlstate;
mod error;
pub mod scram;
pub mod rights;
pub mod ddl;
mod rows;
pub mod public_connect;
pub mod facts;
mod disk;
mod priority;
mod address;
mod inside;
pub mod connection_pool;
mod connections;
mod watch;
mod handed_over;
mod context;
mod catalog;
mod collations;
mod leftovers;
mod blockers;
mod requests;
mod steps;
pub mod connect;
pub mod leadership;
mod garbage;
pub mod membership;
mod orphans;
mod drop_blockers;
pub mod source_database;
mod trial_login;
pub mod backend;
pub mod purge;
pub mod doctor;
