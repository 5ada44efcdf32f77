//! Property tests of names, and of the planner on arbitrary snapshots (after a manual change of the catalog, or from a backup).
//! The `scenarios` test of pgdibs-testing covers the snapshots that pgdibs itself produces.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the place and the value")]

mod names;
mod snapshots;
