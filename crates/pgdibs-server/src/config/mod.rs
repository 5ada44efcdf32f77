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
pub(crate) mod suggestion;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod variables;

pub use address::HostPort;
pub use error::ConfigError;
pub use flags::{GlobalFlags, ServeFlags};
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzzed::{configuration, masks};
pub use load::{Loaded, load, variables_of_this_process};
pub use pools::PoolConfig;
#[cfg(test)]
pub use rows::masked_url;
pub use settings::{Config, LogFormat};
#[cfg(test)]
pub use source_table::SourceTable;
pub use suggestion::suggestion;
