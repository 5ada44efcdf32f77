//! The configuration: flag over `PGDIBS_*` over `pgdibs.toml` over default, read once, the origin of every value kept.

mod address;
mod error;
mod file;
mod flags;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzed;
mod layers;
mod load;
mod pools;
mod rows;
mod settings;
mod source_table;
mod suggestion;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod variables;

pub(crate) use address::HostPort;
pub(crate) use error::ConfigError;
pub(crate) use flags::{GlobalFlags, ServeFlags};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzed::{configuration, masks};
pub(crate) use load::{Loaded, load, variables_of_this_process};
pub(crate) use pools::PoolConfig;
#[cfg(test)]
pub(crate) use rows::masked_url;
pub(crate) use settings::{Config, LogFormat};
#[cfg(test)]
pub(crate) use source_table::SourceTable;
