//! Shared test support: the conformance suite of every backend, and a fake backend in memory.

pub mod conformance;
pub mod examples;
pub mod fake;
