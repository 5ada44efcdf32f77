//! Reading `pgdibs.toml`: syntax, unknown keys, and the line of every value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::convert;
use super::error::ConfigError;
use super::layers::{Found, Origin, Raw};
use super::suggestion;

/// The file as a whole: its name for people, its directory, its text.
pub struct FileText {
    /// As it was asked for, or `./pgdibs.toml`.
    pub shown: PathBuf,
    /// Where relative paths in it start. Absolute.
    pub directory: PathBuf,
    /// What it says.
    pub text: String,
}

impl FileText {
    /// Reads `asked` (from the flag or variable that `asked_by` names), or `pgdibs.toml` in the working directory if there is one.
    ///
    /// # Errors
    /// A file that was asked for is not there, or the file cannot be read.
    pub fn read(asked: Option<(&str, &str)>, working_directory: &Path) -> Result<Option<Self>, ConfigError> {
        let shown = asked.map_or_else(|| PathBuf::from("./pgdibs.toml"), |(path, _)| PathBuf::from(path));
        let path = working_directory.join(&shown);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(reason) if asked.is_none() && reason.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(reason) => {
                let asked_by = asked.map_or("default", |(_, by)| by).to_owned();
                return Err(ConfigError::Unreadable { asked_by, path: shown, reason });
            }
        };
        let directory = path.parent().unwrap_or(working_directory).components().collect();
        Ok(Some(Self { shown, directory, text }))
    }

    /// Parses the text.
    ///
    /// # Errors
    /// It is not TOML: line, column and the parser's words.
    pub fn parse(&self) -> Result<DeTable<'_>, ConfigError> {
        DeTable::parse(&self.text).map(toml::Spanned::into_inner).map_err(|error| {
            let at = error.span().map_or(self.text.len(), |span| span.start).min(self.text.len());
            let before = self.text.get(..at).unwrap_or(&self.text);
            let start_of_line = before.rfind('\n').map_or(0, |newline| newline + 1);
            ConfigError::Syntax {
                file: self.shown.clone(),
                line: self.line(at),
                column: before[start_of_line..].chars().count() + 1,
                problem: error.message().to_owned(),
            }
        })
    }

    fn line(&self, at: usize) -> usize {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn origin(&self, at: usize) -> Origin {
        Origin::File { path: self.shown.clone(), line: self.line(at) }
    }
}

/// One table of the file, with the names to use in sentences about it.
pub struct TableReader<'a> {
    file: &'a FileText,
    table: &'a DeTable<'a>,
    /// `` (the top), `pools.shop`, `pools.shop.source`.
    path: String,
    origin: Origin,
}

impl<'a> TableReader<'a> {
    /// The top of the file.
    pub fn top(file: &'a FileText, table: &'a DeTable<'a>) -> Self {
        Self { file, table, path: String::new(), origin: file.origin(0) }
    }

    /// The file it stands in.
    pub fn file(&self) -> &'a FileText {
        self.file
    }

    /// The line on which the table begins.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// `pools.shop.warm` for `warm`.
    pub fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The table's own full name.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Every key with its origin.
    pub fn keys(&self) -> impl Iterator<Item = (&'a str, Origin)> + '_ {
        self.table.iter().map(|(key, _)| (key.get_ref().as_ref(), self.file.origin(key.span().start)))
    }

    /// Refuses the first key (by line) that is not known. `elsewhere` says where a key belongs that is known in another table.
    ///
    /// # Errors
    /// [`ConfigError::UnknownKey`].
    pub fn refuse_unknown(&self, known: &[&str], elsewhere: &[(&str, &str)]) -> Result<(), ConfigError> {
        let unknown = self.table.iter().filter(|(key, _)| !known.contains(&key.get_ref().as_ref()));
        let Some((key, _)) = unknown.min_by_key(|(key, _)| key.span().start) else {
            return Ok(());
        };
        let written = key.get_ref().as_ref();
        let hint = match elsewhere.iter().find(|(name, _)| *name == written) {
            Some((_, place)) => format!("it belongs into {place}"),
            None => suggestion::hint(written, known),
        };
        let place = match self.path.as_str() {
            "" => "at the top of the file".to_owned(),
            path => format!("in [{path}]"),
        };
        Err(ConfigError::UnknownKey {
            file: self.file.shown.clone(),
            line: self.file.line(key.span().start),
            key: written.to_owned(),
            place,
            hint,
        })
    }

    /// The table under `key`.
    ///
    /// # Errors
    /// There is something else under it.
    pub fn table(&self, key: &str) -> Result<Option<Self>, ConfigError> {
        let Some((at, value)) = self.find(key) else {
            return Ok(None);
        };
        let path = self.name(key);
        match value {
            DeValue::Table(table) => Ok(Some(Self { file: self.file, table, path, origin: self.file.origin(at) })),
            other => {
                let problem = format!("a table is wanted, not {}; write [{path}]", described(other));
                Err(ConfigError::value(path.clone(), &self.file.origin(at), problem))
            }
        }
    }

    /// The raw value under `key`.
    ///
    /// # Errors
    /// A kind of value that no setting has.
    pub fn raw(&self, key: &str) -> Result<Option<Found<Raw>>, ConfigError> {
        let Some((at, value)) = self.find(key) else {
            return Ok(None);
        };
        let origin = self.file.origin(at);
        let refused = |what: &str| {
            Err(ConfigError::value(self.name(key), &origin, format!("{what} is no value for any setting of pgdibs")))
        };
        let value = match value {
            DeValue::String(text) => Raw::Text(text.clone().into_owned()),
            DeValue::Boolean(value) => Raw::Boolean(*value),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(value) => Raw::Integer(value),
                Err(_) => return refused("a number of that size"),
            },
            DeValue::Array(values) => {
                let words = values.iter().map(|value| match value.get_ref() {
                    DeValue::String(text) => Some(text.clone().into_owned()),
                    _ => None,
                });
                match words.collect() {
                    Some(words) => Raw::List(words),
                    None => return refused("an array with anything but strings in it"),
                }
            }
            other => return refused(described(other)),
        };
        Ok(Some(Found { value, origin }))
    }

    /// A string.
    ///
    /// # Errors
    /// Another kind of value, or an empty string.
    pub fn text(&self, key: &str) -> Result<Option<Found<String>>, ConfigError> {
        self.raw(key)?.map(|found| convert::text(&self.name(key), found)).transpose()
    }

    /// A whole number between the two, both included.
    ///
    /// # Errors
    /// Anything else.
    pub fn number(&self, key: &str, low: i64, high: i64) -> Result<Option<Found<i64>>, ConfigError> {
        self.raw(key)?.map(|found| convert::number(&self.name(key), found, low, high)).transpose()
    }

    /// An array of strings.
    ///
    /// # Errors
    /// Another kind of value.
    pub fn list(&self, key: &str) -> Result<Option<Found<Vec<String>>>, ConfigError> {
        self.raw(key)?.map(|found| convert::list(&self.name(key), found)).transpose()
    }

    /// The string under `key`, nothing when another kind of value stands there.
    ///
    /// # Errors
    /// A kind of value that no setting has.
    pub fn text_of_kind(&self, key: &str) -> Result<Option<Found<String>>, ConfigError> {
        Ok(self.raw(key)?.and_then(|Found { value, origin }| match value {
            Raw::Text(value) => Some(Found { value, origin }),
            _ => None,
        }))
    }

    /// An array of strings, each exactly as written: arguments and globs may hold commas and blanks.
    ///
    /// # Errors
    /// Another kind of value.
    pub fn words(&self, key: &str) -> Result<Option<Found<Vec<String>>>, ConfigError> {
        match self.raw(key)? {
            None => Ok(None),
            Some(Found { value: Raw::List(value), origin }) => Ok(Some(Found { value, origin })),
            Some(Found { value, origin }) => {
                let problem = format!("an array of strings is wanted, not {}", value.kind());
                Err(ConfigError::value(self.name(key), &origin, problem))
            }
        }
    }

    /// Every key of this table except `leave_out`, with its raw value.
    ///
    /// # Errors
    /// A kind of value that no setting has.
    pub fn all_except(&self, leave_out: &str) -> Result<BTreeMap<String, Found<Raw>>, ConfigError> {
        let keys = self.keys().map(|(key, _)| key).filter(|key| *key != leave_out);
        keys.filter_map(|key| self.raw(key).map(|found| found.map(|found| (key.to_owned(), found))).transpose())
            .collect()
    }

    fn find(&self, key: &str) -> Option<(usize, &'a DeValue<'a>)> {
        let (found, value) = self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key)?;
        Some((found.span().start, value.get_ref()))
    }
}

fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
