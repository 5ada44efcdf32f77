//! The domain of pgdibs: pools, templates, databases, leases, and the planner that decides the next steps.
//!
//! This crate does no IO, reads no clock and draws no random numbers; callers pass time in as a value. Tests therefore need no
//! server, and every decision is a value that can be printed. Reading order: the modules as listed.

#![warn(missing_docs)]

pub mod id;
pub mod name;
pub mod pool;
pub mod template;
pub mod database;
pub mod lease;
pub mod error;
pub mod request;
pub mod snapshot;
pub mod plan;
pub mod event;
pub mod watch;
pub mod backend;
pub mod probe;
pub mod failpoint;
mod text_enum;
