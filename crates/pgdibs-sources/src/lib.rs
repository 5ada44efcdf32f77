//! Templates that the daemon builds: their sources, the fingerprints of these, and the builds.

mod build;
mod capture;
mod dump;
mod fingerprint;
mod group;
mod hashing;
mod inputs;
mod matching;
mod naming;
mod process;
mod psql_report;
mod psql_text;
mod script;
mod source;
#[cfg(test)]
mod tests;
mod tools;

#[cfg(test)]
pub use build::BuildReport;
pub use build::{BuildFailure, BuildPlan, BuildTarget, build, plan};
pub use fingerprint::{FingerprintContext, SourceFingerprint};
pub use matching::{FileGlob, Matches, Unreadable};
pub use source::{Source, SourceKind};
