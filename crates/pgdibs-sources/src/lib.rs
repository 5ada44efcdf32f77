//! Templates that the daemon builds: their sources, the fingerprints of these, and the builds.

mod build;
mod capture;
mod copying;
mod database;
mod dump;
mod dump_roles;
mod environment;
mod fingerprint;
mod frames;
mod group;
mod hashing;
mod inputs;
mod matching;
mod naming;
mod process;
mod psql_report;
mod psql_text;
mod restoring;
mod script;
mod source;
mod target;
#[cfg(test)]
mod tests;
mod tools;

pub use build::{BuildFailure, BuildPlan, BuildReport, build, plan};
pub use database::DatabaseCopy;
pub use dump_roles::DumpRoles;
pub use fingerprint::{FingerprintContext, SourceFingerprint};
pub use matching::{FileGlob, Matches, Unreadable};
pub use restoring::{TemplateDump, restore};
pub use source::{Source, SourceKind};
pub use target::BuildTarget;
