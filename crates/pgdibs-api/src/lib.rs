//! The HTTP API of pgdibs as types: what a caller sends, what the daemon answers, its problem codes and its limits.
//!
//! The daemon writes these types and the client reads them; `api/openapi.json` is generated from them. Times are RFC 3339 in UTC,
//! durations seconds, sizes bytes. A type that carries credentials has no `Debug`, so that no log line can show them.
//!
//! A client may be older or newer than its daemon (see [`level`]): requests refuse unknown fields, answers ignore them, and an unknown
//! value of an enumeration in an answer is `Unknown`.
#![warn(missing_docs)]

pub mod bounded;
pub mod database;
pub mod event;
pub mod lease;
pub mod level;
pub mod limits;
pub mod pool;
pub mod probe;
pub mod problem;
pub mod run;
pub mod run_report;
pub mod status;
pub mod template;
pub mod time;
