//! Properties: names, and the planner on snapshots that no history of ours leads to (somebody edited the catalog, or it came from a
//! backup). The random worlds cover the histories.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the place and the value")]

mod names;
mod snapshots;
