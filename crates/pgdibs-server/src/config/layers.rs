//! Merges the layers (flags, variables, file, defaults), remembers the origin of each value, and has serde read the result.

use std::collections::BTreeMap;

use pgdibs_core::name::shown;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::Value;

use super::error::{ConfigError, Origin};
use super::file::File;
use super::pools::PoolTable;
use super::settings::Config;
use super::source_table::SourceTable;
use super::suggestion;
use super::table::{Key, Scope};

/// The value of each setting that has one, and where it came from.
pub struct Layers<'a> {
    pub file: Option<&'a File<'a>>,
    pub values: BTreeMap<&'static str, (Value, Origin)>,
}

/// A secret and the file that holds it are one setting, so that a layer that has either hides both of the layers below.
fn without_file_suffix(name: &str) -> &str {
    name.strip_suffix("_file").unwrap_or(name)
}

impl Layers<'_> {
    /// Adds a layer below those that it has. A value that does not count is not read, so it cannot be wrong.
    pub fn add(&mut self, layer: impl Fn(&Key) -> Option<(Value, Origin)>) -> Result<(), ConfigError> {
        let above: Vec<&str> = self.values.keys().map(|name| without_file_suffix(name)).collect();
        for key in Config::KEYS.iter().filter(|key| !above.contains(&without_file_suffix(key.name))) {
            let Some((value, origin)) = layer(key) else { continue };
            let secret = without_file_suffix(key.name);
            if secret != key.name && self.values.contains_key(secret) {
                let problem = format!("{secret} is given beside it, and only one can count; leave one out");
                return Err(ConfigError::value(key.name, &origin, &problem));
            }
            self.values.insert(key.name, (value, origin));
        }
        Ok(())
    }

    pub fn origin(&self, path: &[&str]) -> Origin {
        match (self.values.get(path[0]), self.file) {
            (Some((_, origin)), _) => origin.clone(),
            (None, Some(file)) if path[0] == "pools" => file.origin(path),
            _ => Origin::Default,
        }
    }

    pub fn error(&self, path: &[&str], problem: impl AsRef<str>) -> ConfigError {
        ConfigError::value(&dotted(path), &self.origin(path), problem.as_ref())
    }

    /// Has serde read the value, which stands at `path` in the configuration.
    pub fn deserialize<T: DeserializeOwned>(&self, path: &[&str], value: Value) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let inner = error.path().iter().filter_map(|segment| match segment {
                Segment::Map { key } => Some(key.as_str()),
                _ => None,
            });
            let path: Vec<&str> = path.iter().copied().chain(inner).collect();
            match (error.inner().message(), self.file) {
                (message, Some(file)) if message.starts_with("unknown field") => unknown_key(file, &path),
                (message, _) => self.error(&path, without_value(message)),
            }
        })
    }
}

/// serde's error about a value of the wrong type, in the terms of TOML. The value is left out, since it may be a secret.
fn without_value(message: &str) -> String {
    let wrong_type = message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "));
    let Some((found, expected)) = wrong_type else { return message.to_owned() };
    let kind = found.split(['`', '"']).next().unwrap_or_default().trim();
    let found = if expected == "a boolean" { found } else { kind };
    let sentence = format!("expected {expected}, found {found}");
    let terms = [
        ("a map", "a table"),
        ("a sequence", "an array"),
        ("a boolean", "true or false"),
        ("a string", "a string in quotes"),
    ];
    terms.iter().fold(sentence, |sentence, (serde, toml)| sentence.replace(serde, toml))
}

fn dotted(path: &[&str]) -> String {
    path.iter().map(|key| shown(key)).collect::<Vec<_>>().join(".")
}

/// The keys that a table of the file may have.
pub fn names_in_file(keys: &'static [Key]) -> Vec<&'static str> {
    keys.iter().filter(|key| key.scope != Scope::FlagOnly).map(|key| key.name).collect()
}

/// The last key of the path is unknown.
pub fn unknown_key(file: &File<'_>, path: &[&str]) -> ConfigError {
    let tables = [("", Config::KEYS), ("[pools.NAME]", PoolTable::KEYS), ("[pools.NAME.source]", SourceTable::KEYS)];
    let tables = tables.map(|(table, keys)| (table, names_in_file(keys)));
    let (parents, key) = (&path[..path.len() - 1], path[path.len() - 1]);
    let place =
        if parents.is_empty() { "at the top of the file".to_owned() } else { format!("in [{}]", dotted(parents)) };
    let depth = parents.len().saturating_sub(1);
    let hint = match tables[depth + 1..].iter().find(|(_, keys)| keys.contains(&key)) {
        Some((table, _)) => format!("it belongs in {table}"),
        None => suggestion::hint(key, &tables[depth].1),
    };
    let (name, line) = (file.source.name.display(), file.line(path));
    ConfigError(format!("{name}, line {line}: unknown key `{}` {place}; {hint}", shown(key)))
}
