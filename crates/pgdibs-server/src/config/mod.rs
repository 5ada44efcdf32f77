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

pub use address::HostPort;
pub use error::ConfigError;
pub use flags::{Flags, GlobalFlags, ServeFlags};
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzzed::{configuration, masks};
pub use load::{Loaded, load, variables_of_this_process};
#[cfg(test)]
pub use pools::PoolSettingsConfig;
pub use pools::{PoolConfig, StrategyConfig};
pub use resolved::{Config, LogFormat};
#[cfg(test)]
pub use rows::masked_url;
#[cfg(test)]
pub use source_table::keys as source_keys;
