//! `[pools.NAME.source]`: what the daemon builds a pool's template from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::error::ConfigError;
use super::file::TableReader;
use super::identifiers::check_identifier;
use pgdibs_sources::{FileGlob, Source, SourceKind};

const KINDS: &[&str] = &["sql_dir", "sql_file", "command", "database"];
/// Every key of the table.
pub const KEYS: &[&str] =
    &["sql_dir", "sql_file", "command", "database", "inputs", "env", "directory", "timeout_seconds"];

/// The same, for tests of what a request must not carry.
#[cfg(test)]
pub fn keys() -> &'static [&'static str] {
    KEYS
}

/// What pgdibs itself sets for every build.
const SET_BY_US: &[&str] = &["DATABASE_URL", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"];

/// Reads the table. Whether its files exist is seen at the first build, since they may appear while the daemon runs.
///
/// # Errors
/// Not exactly one kind of source, a key that has no meaning for that kind, or a value that breaks its rule.
pub fn read(table: &TableReader<'_>) -> Result<Source, ConfigError> {
    table.refuse_unknown(KEYS, &[])?;
    let given: Vec<&str> = KINDS.iter().copied().filter(|kind| table.keys().any(|(key, _)| key == *kind)).collect();
    if given.len() != 1 {
        let count = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
        let problem = format!("exactly one of {} is wanted, but there is {count}", KINDS.join(", "));
        return Err(ConfigError::value(table.path(), table.origin(), problem));
    }
    let base = table.file().directory.clone();
    let kind = kind(table, &base)?;
    if matches!(kind, SourceKind::Database(_)) {
        for key in ["inputs", "env", "directory"] {
            if let Some((_, origin)) = table.keys().find(|(name, _)| *name == key) {
                let problem = "it has no meaning for a `database` source, which is cloned and not run; leave it out";
                return Err(ConfigError::value(table.name(key), &origin, problem));
            }
        }
    }
    let inputs = inputs(table, &kind)?;
    let directory = table.text("directory")?.map_or_else(|| base.clone(), |found| base.join(found.value));
    let timeout = table.number("timeout_seconds", 1, 86_400)?;
    let timeout = timeout.map(|found| Duration::from_secs(found.value.unsigned_abs()));
    let env = variables(table)?;
    Ok(Source { kind, inputs, base, env, directory, timeout })
}

fn kind(table: &TableReader<'_>, base: &std::path::Path) -> Result<SourceKind, ConfigError> {
    let path = |key| table.text(key).map(|found| found.map(|found| -> PathBuf { base.join(found.value) }));
    if let Some(path) = path("sql_dir")? {
        return Ok(SourceKind::SqlDir(path));
    }
    if let Some(path) = path("sql_file")? {
        return Ok(SourceKind::SqlFile(path));
    }
    if let Some(found) = table.text_of_kind("command")? {
        return Err(ConfigError::value(
            table.name("command"),
            &found.origin,
            format!(
                "an array of the program and its arguments is wanted, not a string, since no shell takes it apart: command = [{}]",
                found.value.split_whitespace().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
            ),
        ));
    }
    if let Some(found) = table.words("command")? {
        if found.value.first().is_none_or(|program| program.is_empty()) {
            let problem = "the array is empty; its first string is the program, the others its arguments";
            return Err(ConfigError::value(table.name("command"), &found.origin, problem));
        }
        return Ok(SourceKind::Command(found.value));
    }
    let Some(found) = table.text("database")? else {
        return Err(ConfigError::value(table.path(), table.origin(), "no kind of source"));
    };
    check_identifier(&table.name("database"), &found)?;
    Ok(SourceKind::Database(found.value))
}

fn inputs(table: &TableReader<'_>, kind: &SourceKind) -> Result<Vec<FileGlob>, ConfigError> {
    let mut globs = Vec::new();
    if let Some(found) = table.words("inputs")? {
        for pattern in &found.value {
            globs.push(FileGlob::parse(pattern).map_err(|error| {
                let problem = format!("`{pattern}` is not a glob: {}", error.kind());
                ConfigError::value(table.name("inputs"), &found.origin, problem)
            })?);
        }
    }
    if globs.is_empty() && matches!(kind, SourceKind::Command(_)) {
        return Err(ConfigError::value(
            table.name("inputs"),
            table.origin(),
            "a `command` source needs `inputs`, the globs of the files it reads (such as inputs = [\"migrations/**/*.py\"]): \
             they alone tell when the template has to be built again, and without them an old schema would be served for ever",
        ));
    }
    Ok(globs)
}

fn variables(table: &TableReader<'_>) -> Result<BTreeMap<String, SecretString>, ConfigError> {
    let Some(env) = table.table("env")? else {
        return Ok(BTreeMap::new());
    };
    let mut variables = BTreeMap::new();
    for (name, origin) in env.keys() {
        let refuse = |problem: String| Err(ConfigError::value(env.name(name), &origin, problem));
        if name.is_empty() || name.contains(['=', '\0']) {
            return refuse("a variable's name is not empty and has no `=` in it".to_owned());
        }
        if SET_BY_US.contains(&name) {
            return refuse(format!(
                "pgdibs sets this variable itself, to the database that is being built; leave it out, and give another form of it \
                 with a command such as [\"sh\", \"-c\", \"OTHER_URL=${name} exec ...\"]"
            ));
        }
        match env.raw(name)? {
            Some(super::layers::Found { value: super::layers::Raw::Text(value), .. }) if !value.contains('\0') => {
                variables.insert(name.to_owned(), SecretString::from(value));
            }
            _ => return refuse("a string is wanted; put the value in quotes".to_owned()),
        }
    }
    Ok(variables)
}
