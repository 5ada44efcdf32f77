//! The table of settings: every name once, with its kind, its default and what its absence means.

/// What shape the value of a setting has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text; its own rule is checked where it is read.
    Text,
    /// Text that is never shown. `<name>_file` names a file that holds it.
    Secret,
    /// A path. Relative ones start at the working directory, in the file at the file's own directory.
    Path,
    /// true or false.
    Boolean,
    /// A whole number between the two, both included.
    Number(i64, i64),
    /// Words; separated by commas in a flag or variable, an array (or such a string) in the file.
    List,
}

/// One setting. Its flag is `--` and the name with hyphens, its variable `PGDIBS_` and the name in capitals.
#[derive(Debug)]
pub(crate) struct Setting {
    /// As it stands in the file.
    pub(crate) name: &'static str,
    /// The shape of the value.
    pub(crate) kind: Kind,
    /// As one would write it in a variable.
    pub(crate) default: Option<&'static str>,
    /// What `pgdibs config` shows when there is neither a value nor a default.
    pub(crate) absent: &'static str,
    /// Neither a variable nor the file can set it.
    pub(crate) flag_only: bool,
}

const fn setting(name: &'static str, kind: Kind, default: Option<&'static str>, absent: &'static str) -> Setting {
    Setting { name, kind, default, absent, flag_only: false }
}

const DAY: i64 = 86_400;

/// Every setting outside `[pools]`, in the order in which `pgdibs config` lists them.
pub(crate) const SETTINGS: &[Setting] = &[
    setting("listen", Kind::Text, Some("127.0.0.1:7432"), ""),
    setting("token", Kind::Secret, None, "(none: callers need no token)"),
    setting("token_file", Kind::Path, None, "(none)"),
    setting("insecure_no_token", Kind::Boolean, Some("false"), ""),
    setting("allowed_hosts", Kind::List, Some(""), ""),
    setting("server_url", Kind::Secret, None, "(none: the embedded server)"),
    setting("server_url_file", Kind::Path, None, "(none)"),
    setting("advertise", Kind::List, Some(""), ""),
    setting("data_dir", Kind::Path, None, "(memory when it has room, otherwise the cache directory)"),
    setting("pg_bin_dir", Kind::Path, None, "(looked for)"),
    setting("postgres_listen", Kind::Text, None, "(loopback, a port of the data directory's own)"),
    setting("max_ttl_seconds", Kind::Number(1, DAY), Some("3600"), ""),
    setting("disk_floor_mb", Kind::Number(0, 10_000_000), Some("512"), ""),
    setting("linger_seconds", Kind::Number(0, DAY), Some("180"), ""),
    setting("build_timeout_seconds", Kind::Number(1, DAY), Some("600"), ""),
    setting("idle_seconds", Kind::Number(1, DAY), Some("300"), ""),
    setting("log", Kind::Text, Some("info"), ""),
    setting("log_format", Kind::Text, Some("auto"), ""),
    Setting { name: "stop_server", kind: Kind::Boolean, default: Some("false"), absent: "", flag_only: true },
];

/// Variables with our prefix that other parts of pgdibs read or set, and what for: they do not make the daemon warn.
pub(crate) const KNOWN_TO_OTHERS: &[(&str, &str)] = &[
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
    ("PGDIBS_BIN", "the program that the Python client starts, in place of the one of its wheel"),
    ("PGDIBS_PLUGIN_STATE", "the pytest plugin's own, for the processes that it starts"),
    ("PGDIBS_CACHE", "where this repository's scripts keep what they download"),
];

/// The setting of that name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// `PGDIBS_LISTEN` for `listen`.
pub(crate) fn variable_of(name: &str) -> String {
    format!("PGDIBS_{}", name.to_ascii_uppercase())
}

/// `--pg-bin-dir` for `pg_bin_dir`.
pub(crate) fn flag_of(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

/// Names that may stand at the top of the file.
pub(crate) fn file_keys() -> Vec<&'static str> {
    let settings = SETTINGS.iter().filter(|setting| !setting.flag_only).map(|setting| setting.name);
    settings.chain(["pools"]).collect()
}

/// A sentence for each variable that has our prefix and that nobody reads. Never an error: a build system may pass variables
/// that belong to another version or another tool.
pub(crate) fn warnings_about_variables<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut known: Vec<String> =
        SETTINGS.iter().filter(|setting| !setting.flag_only).map(|setting| variable_of(setting.name)).collect();
    known.extend(KNOWN_TO_OTHERS.iter().map(|(name, _)| (*name).to_owned()));
    let mut warnings: Vec<String> = names
        .into_iter()
        .filter(|name| name.starts_with("PGDIBS_") && !name.starts_with("PGDIBS_TEST_"))
        .filter(|name| !known.iter().any(|other| other == name))
        .map(|name| match super::suggestion::suggestion(name, known.iter().map(String::as_str)) {
            Some(near) => format!("the variable {name} is not known and has no effect; did you mean {near}?"),
            None => format!("the variable {name} is not known and has no effect; `pgdibs config` lists the settings"),
        })
        .collect();
    warnings.sort();
    warnings
}
