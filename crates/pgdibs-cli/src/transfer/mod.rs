//! `pgdibs template export` and `import`: a template as a file, for daemons on other servers.

mod connection;
mod export;
mod file;
mod import;

pub(super) use export::export;
pub(super) use import::import;
