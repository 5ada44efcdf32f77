//! Reads the configuration from its layers: flags, variables and the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::file::{FileText, TableReader};
use super::flags::Flags;
use super::layers::Layers;
use super::pools;
use super::resolve::Resolver;
use super::resolved::Config;
use super::rows::ConfigRow;
use super::settings;

/// What [`load`] gives.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The same for `pgdibs config`, secrets masked.
    pub rows: Vec<ConfigRow>,
    /// Sentences about variables that have no effect and secrets that others can read, for the log.
    pub warnings: Vec<String>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

/// Reads the configuration from flags, an environment and the file they name. `working_directory` is absolute; relative paths in
/// flags and variables start there, those in the file at the file's own directory.
///
/// # Errors
/// The first thing that breaks its rule, as a sentence that names the setting, the origin, the rule and the way out.
pub fn load(
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
    let text = FileText::read(asked, working_directory)?;
    read(flags, environment, text, working_directory)
}

/// The same with the file's text at hand.
pub(super) fn read(
    flags: &Flags,
    environment: BTreeMap<String, String>,
    text: Option<FileText>,
    working_directory: &Path,
) -> Result<Loaded, ConfigError> {
    let mut warnings = settings::warnings_about_variables(environment.keys().map(String::as_str));
    let table = text.as_ref().map(|text| text.parse()).transpose()?;
    let mut in_file = BTreeMap::new();
    let mut pools = Vec::new();
    let mut pool_rows = Vec::new();
    let mut file_directory = working_directory;
    if let (Some(text), Some(table)) = (&text, &table) {
        let top = TableReader::top(text, table);
        top.refuse_unknown(&settings::file_keys(), &pools::belong_to_a_pool())?;
        in_file = top.all_except("pools")?;
        file_directory = &text.directory;
        if let Some(table) = top.table("pools")? {
            (pools, pool_rows) = pools::read(&table)?;
        }
    }
    let layers = Layers { flags: flags.given(), environment, file: in_file };
    let mut resolver = Resolver::new(&layers, working_directory, file_directory);
    let config = resolver.config(pools)?;
    warnings.append(&mut resolver.warnings);
    let mut rows = resolver.into_rows();
    rows.extend(pool_rows);
    Ok(Loaded { config, rows, warnings, file: text.map(|text| text.shown) })
}

/// The process's own variables with our prefix, for [`load`]. Bytes that are no UTF-8 become replacement characters, so that a
/// strange value is refused by its setting's rule and a strange variable of others does no harm.
pub fn variables_of_this_process() -> Vec<(String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with("PGDIBS_"))
        .collect()
}
