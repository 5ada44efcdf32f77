//! The domain of pgdibs.
