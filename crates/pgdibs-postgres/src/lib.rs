//! All SQL of pgdibs.
pub mod embedded;
