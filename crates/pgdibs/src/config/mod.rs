//! The configuration: flag over `PGDIBS_*` over `pgdibs.toml` over default, read once, the origin of every value kept.

mod address;
mod convert;
mod error;
mod file;
mod flags;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzed;
mod identifiers;
mod layers;
mod load;
mod suggestion;
mod pools;
mod resolve;
mod resolved;
mod rows;
mod settings;
mod source_table;
#[cfg(test)]
mod tests;

pub(crate) use address::HostPort;
pub(crate) use error::ConfigError;
pub(crate) use flags::{Flags, GlobalFlags, ServeFlags};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzed::{configuration, masks};
pub(crate) use load::{Loaded, load, variables_of_this_process};
#[cfg(test)]
pub(crate) use pools::PoolSettingsConfig;
pub(crate) use pools::{PoolConfig, StrategyConfig};
pub(crate) use resolved::{Config, LogFormat};
#[cfg(test)]
pub(crate) use rows::masked_url;
#[cfg(test)]
pub(crate) use source_table::keys as source_keys;
