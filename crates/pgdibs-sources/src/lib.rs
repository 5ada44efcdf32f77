//! Templates that the daemon builds: their sources, the fingerprints of these, and the builds.

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
pub use fingerprint::{FingerprintContext, SourceFingerprint};
pub use matching::{FileGlob, Matches, Unreadable};
pub use source::{Source, SourceKind};
