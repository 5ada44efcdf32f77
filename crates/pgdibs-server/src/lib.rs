//! The daemon of pgdibs: configuration, service, reconciler, HTTP. Reading order: the modules as listed, from the bottom to the top.
//! Its users are the command line and fuzz targets; nothing outside this repository depends on it.

pub mod config;
pub mod endpoint_file;
pub mod units;
pub mod overview;
pub mod offline;
mod metrics;
mod events;
mod service;
mod reconciler;
pub mod daemon;
mod http;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
