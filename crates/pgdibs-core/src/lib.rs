//! The domain of pgdibs: what a pool, a template, a database and a lease are, and what is to be done next.
//!
//! Nothing here does IO, reads a clock or rolls dice; time comes in as a value. So this crate can be tested without a
//! server, and a decision made here is a value that can be printed. Reading order: the modules as listed.

#![warn(missing_docs)]

pub mod name;
pub mod pool;
pub mod template;
pub mod database;
pub mod lease;
pub mod error;
pub mod request;
pub mod snapshot;
pub mod plan;
pub mod watch;
pub mod backend;
pub mod probe;
pub mod failpoint;
