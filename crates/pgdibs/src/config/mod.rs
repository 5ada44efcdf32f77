//! The configuration: flag over `PGDIBS_*` over `pgdibs.toml` over default, read once, the origin of every value kept.

mod address;
mod convert;
mod error;
mod file;
mod flags;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzed;
mod layers;
mod suggestion;
mod pools;
mod resolve;
mod rows;
mod settings;
mod source_table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

pub(crate) use address::{Advertise, HostPort};
pub(crate) use error::ConfigError;
pub(crate) use flags::{Flags, GlobalFlags, ServeFlags};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzed::{configuration, masks};
#[cfg(test)]
pub(crate) use pools::PoolSettingsConfig;
pub(crate) use pools::{PoolConfig, StrategyConfig};
pub(crate) use rows::ConfigRow;
#[cfg(test)]
pub(crate) use rows::masked_url;
#[cfg(test)]
pub(crate) use source_table::keys as source_keys;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Every setting, checked. Issue 2, section 5.4.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where to listen; port 0 takes a free one.
    pub(crate) listen: HostPort,
    /// What callers must present; absent: nothing.
    pub(crate) token: Option<SecretString>,
    /// Listening beyond loopback without a token was asked for.
    pub(crate) insecure_no_token: bool,
    /// Names in small letters, besides loopback ones, that a `Host` header may carry.
    pub(crate) allowed_hosts: Vec<String>,
    /// The server to manage; absent: the embedded one.
    pub(crate) server_url: Option<SecretString>,
    /// Addresses handed out in place of the daemon's own.
    pub(crate) advertise: Advertise,
    /// Where the embedded server keeps its data; absolute.
    pub(crate) data_dir: Option<PathBuf>,
    /// Where Postgres' programs are; absolute.
    pub(crate) pg_bin_dir: Option<PathBuf>,
    /// Where the embedded server listens; absent: loopback, a port of the data directory's own.
    pub(crate) postgres_listen: Option<SocketAddr>,
    /// The longest a lease in use lives after its last renewal.
    pub(crate) max_ttl: Duration,
    /// No clone is made below this much free disk, in MiB.
    pub(crate) disk_floor_mb: u64,
    /// How long the embedded server waits for a next daemon.
    pub(crate) linger: Duration,
    /// How long a build may take when its source says nothing else.
    pub(crate) build_timeout: Duration,
    /// After this much quiet a pool's raised target falls back to `warm`.
    pub(crate) idle: Duration,
    /// A `tracing` filter.
    pub(crate) log: String,
    /// How log lines look.
    pub(crate) log_format: LogFormat,
    /// Stop the embedded server with the daemon in any case.
    pub(crate) stop_server: bool,
    /// The pools of the file, by name.
    pub(crate) pools: Vec<PoolConfig>,
}

/// What [`load`] gives.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// The settings.
    pub(crate) config: Config,
    /// The same for `pgdibs config`, secrets masked.
    pub(crate) rows: Vec<ConfigRow>,
    /// Sentences about variables that have no effect and secrets that others can read, for the log.
    pub(crate) warnings: Vec<String>,
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
}

/// Reads the configuration from flags, an environment and the file they name. `working_directory` is absolute; relative paths in
/// flags and variables start there, those in the file at the file's own directory.
///
/// # Errors
/// The first thing that breaks its rule, as a sentence that names the setting, the origin, the rule and the way out.
pub(crate) fn load(
    flags: &Flags,
    environment: impl IntoIterator<Item = (String, String)>,
    working_directory: &Path,
) -> Result<Loaded, ConfigError> {
    let environment: BTreeMap<String, String> = environment.into_iter().collect();
    let in_environment = environment.get("PGDIBS_CONFIG").filter(|path| !path.is_empty());
    let asked = match (&flags.global.config, in_environment) {
        (Some(path), _) => Some((path.as_str(), "flag --config")),
        (None, Some(path)) => Some((path.as_str(), "environment PGDIBS_CONFIG")),
        (None, None) => None,
    };
    let text = file::FileText::read(asked, working_directory)?;
    read(flags, environment, text, working_directory)
}

/// The same with the file's text at hand.
fn read(
    flags: &Flags,
    environment: BTreeMap<String, String>,
    text: Option<file::FileText>,
    working_directory: &Path,
) -> Result<Loaded, ConfigError> {
    let mut warnings = settings::warnings_about_variables(environment.keys().map(String::as_str));
    let table = text.as_ref().map(|text| text.parse()).transpose()?;
    let mut in_file = BTreeMap::new();
    let mut pools = Vec::new();
    let mut pool_rows = Vec::new();
    let mut file_directory = working_directory;
    if let (Some(text), Some(table)) = (&text, &table) {
        let top = file::TableReader::top(text, table);
        top.refuse_unknown(&settings::file_keys(), &pools::belong_to_a_pool())?;
        in_file = top.all_except("pools")?;
        file_directory = &text.directory;
        if let Some(table) = top.table("pools")? {
            (pools, pool_rows) = pools::read(&table)?;
        }
    }
    let layers = layers::Layers { flags: flags.given(), environment, file: in_file };
    let mut resolver = resolve::Resolver::new(&layers, working_directory, file_directory);
    let config = resolver.config(pools)?;
    warnings.append(&mut resolver.warnings);
    let mut rows = resolver.into_rows();
    rows.extend(pool_rows);
    Ok(Loaded { config, rows, warnings, file: text.map(|text| text.shown) })
}

/// The process's own variables with our prefix, for [`load`]. Bytes that are no UTF-8 become replacement characters, so that a
/// strange value is refused by its setting's rule and a strange variable of others does no harm.
pub(crate) fn variables_of_this_process() -> Vec<(String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with("PGDIBS_"))
        .collect()
}
