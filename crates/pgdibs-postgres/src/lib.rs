//! All SQL of pgdibs.
