//! Reads `pgdibs.toml`: its text, its values and the line of every key.

use std::path::{Path, PathBuf};

use toml::Table;
use toml::de::DeTable;

use super::error::{ConfigError, Origin};

pub struct FileText {
    /// As the user wrote it, or `./pgdibs.toml`.
    pub name: PathBuf,
    /// Where relative paths in it start. Absolute.
    pub directory: PathBuf,
    pub text: String,
}

/// Reads the file that a flag or variable (`named_by`) names, otherwise `pgdibs.toml` in the working directory if it exists.
pub fn read(named: Option<(&str, &str)>, working_directory: &Path) -> Result<Option<FileText>, ConfigError> {
    let (name, named_by) = named.unwrap_or(("./pgdibs.toml", "default"));
    let path = working_directory.join(name);
    let directory = path.parent().unwrap_or(working_directory).components().collect();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(FileText { name: name.into(), directory, text })),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigError(format!(
            "{named_by}: cannot read the configuration file {name}: {error}; correct the path or leave it out (then \
             ./pgdibs.toml is read if it exists)"
        ))),
    }
}

/// The parsed file. serde reads the values; `toml`'s own spanned table has the positions of the keys, so that no type needs them.
pub struct File<'a> {
    pub source: &'a FileText,
    keys: DeTable<'a>,
    pub values: Table,
}

impl<'a> File<'a> {
    pub fn parse(source: &'a FileText) -> Result<Self, ConfigError> {
        let (name, text) = (source.name.display(), &source.text);
        // The error's own text shows the line, which may hold a secret.
        let syntax_error = |error: &toml::de::Error, problem: &str| {
            let (line, column) = line_and_column(text, error.span().map_or(text.len(), |span| span.start));
            ConfigError(format!("{name}, line {line}, column {column}: this is not valid TOML: {problem}"))
        };
        let keys = DeTable::parse(text).map_err(|error| syntax_error(&error, error.message()))?.into_inner();
        let values = toml::from_str(text).map_err(|error| syntax_error(&error, "numbers have at most 64 bits"))?;
        Ok(Self { source, keys, values })
    }

    /// The line of the last key of the path that the file has.
    pub fn line(&self, path: &[&str]) -> usize {
        let mut table = Some(&self.keys);
        let mut byte = 0;
        for key in path {
            let Some((key, value)) = table.and_then(|table| table.get_key_value(*key)) else { break };
            byte = key.span().start;
            table = value.get_ref().as_table();
        }
        line_and_column(&self.source.text, byte).0
    }

    pub fn origin(&self, path: &[&str]) -> Origin {
        Origin::File { path: self.source.name.clone(), line: self.line(path) }
    }
}

/// Both count from 1, the column in characters.
fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}
