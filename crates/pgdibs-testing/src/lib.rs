//! What the tests of pgdibs share: the conformance suite of every backend, and a fake backend that keeps everything in memory.

pub mod conformance;
pub mod examples;
pub mod fake;
