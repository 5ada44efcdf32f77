//! The variables with our prefix: one for each setting, and those that other parts of pgdibs read or set.

use super::settings::Config;
use super::suggestion::suggestion;
use super::table::Key;

/// Variables that are no settings, and their meaning. The daemon does not warn about them.
pub const OF_OTHER_PARTS: &[(&str, &str)] = &[
    ("PGDIBS_CONFIG", "the configuration file; without it `./pgdibs.toml`, if there is one"),
    ("PGDIBS_URL", "where commands, clients and the pytest plugin find the daemon"),
    ("PGDIBS_VIA", "which of the daemon's advertised addresses commands, clients and the pytest plugin ask for"),
    (
        "PGDIBS_SLOT",
        "set for your tests: the lease's slot, a small number that no other process of the pool has meanwhile",
    ),
    ("PGDIBS_LEASE", "set by `pgdibs lease --export`: the lease's id"),
    (
        "PGDIBS_EXPORTED",
        "set by `pgdibs run`, `pgdibs template build` and `pgdibs lease --export`: the names of the variables that they set, separated by commas",
    ),
    ("PGDIBS_ALIAS", "set by the pytest plugin for `pgdibs_build`: which database is to be filled"),
    ("PGDIBS_POOL", "the pytest plugin's `pgdibs_pool`"),
    ("PGDIBS_START", "the pytest plugin's `pgdibs_start`"),
    ("PGDIBS_TIMEOUT", "the pytest plugin's `pgdibs_timeout`"),
    ("PGDIBS_KEEP", "the pytest plugin's `pgdibs_keep`"),
    ("PGDIBS_GUARD", "the pytest plugin's `pgdibs_guard`"),
    ("PGDIBS_TEMPLATE_CACHE", "the pytest plugin's `pgdibs_template_cache`"),
    ("PGDIBS_BIN", "the program that the Python client starts, in place of the one of its wheel"),
    ("PGDIBS_PLUGIN_STATE", "the pytest plugin's own, for the processes that it starts"),
    ("PGDIBS_CACHE", "where this repository's scripts keep what they download"),
];

const PREFIX: &str = "PGDIBS_";

fn without_prefix(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// A sentence for each variable that has our prefix and no effect. Never an error: a build system may pass variables that belong to
/// another version or another tool.
pub fn warnings<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut known: Vec<String> = Config::KEYS.iter().filter_map(Key::variable).collect();
    known.extend(OF_OTHER_PARTS.iter().map(|(name, _)| (*name).to_owned()));
    let unknown = names
        .into_iter()
        .filter(|name| name.starts_with(PREFIX) && !name.starts_with("PGDIBS_TEST_") && !known.contains(name));
    unknown
        .map(|name| match suggestion(without_prefix(name), known.iter().map(|known| without_prefix(known))) {
            Some(near) => format!("the variable {name} is not known and has no effect; did you mean {PREFIX}{near}?"),
            None => format!("the variable {name} is not known and has no effect; `pgdibs config` lists the settings"),
        })
        .collect()
}
