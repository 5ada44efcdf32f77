//! Templates that the daemon builds itself: what they are made from, when they are out of date, and how a build runs.

mod build;
mod capture;
mod dump;
mod fingerprint;
mod group;
mod hashing;
mod inputs;
mod matching;
mod process;
mod psql_report;
mod psql_text;
mod source;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub use build::{BuildFailure, BuildPlan, BuildReport, plan};
pub use build::{BuildTarget, build};
pub use fingerprint::{Circumstances, FingerprintOf};
pub use matching::{FileGlob, Matches, Unreadable};
pub use source::{Source, SourceKind};
