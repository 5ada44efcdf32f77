//! Templates that the daemon builds itself: what they are made from, when they are out of date, and how a build runs.

mod build;
mod capture;
mod fingerprint;
mod group;
mod inputs;
mod matching;
mod process;
mod psql_report;
mod source;
#[cfg(test)]
mod tests;

pub(crate) use build::{BuildFailure, BuildPlan, BuildReport, BuildTarget, build, plan};
pub(crate) use fingerprint::{Circumstances, FORMAT_VERSION, FingerprintOf};
pub(crate) use inputs::InputsError;
pub(crate) use source::{Source, SourceKind};
