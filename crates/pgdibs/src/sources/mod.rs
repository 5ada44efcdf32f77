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
pub(crate) use build::{BuildFailure, BuildPlan, BuildReport, plan};
pub(crate) use build::{BuildTarget, build};
pub(crate) use fingerprint::{Circumstances, FingerprintOf};
pub(crate) use source::{Source, SourceKind};
