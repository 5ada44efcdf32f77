//! Shared test support, never shipped: a fake backend in memory, the conformance suite of every backend, and, with the feature
//! `processes`, real servers and daemons.

#![cfg_attr(
    feature = "processes",
    allow(clippy::unwrap_used, reason = "a test that unwraps fails with the place and the value")
)]

pub mod conformance;
pub mod examples;
pub mod fake;

#[cfg(feature = "processes")]
pub mod cluster;
#[cfg(feature = "processes")]
pub mod end_to_end;
#[cfg(feature = "processes")]
pub mod logs;
#[cfg(feature = "processes")]
pub mod process;
#[cfg(feature = "processes")]
pub mod seed;
#[cfg(feature = "processes")]
pub mod session;
#[cfg(feature = "processes")]
pub mod wait;
