//! Reads `pgdibs.toml`: its text, its values and the line of every key.

use std::path::{Path, PathBuf};

use toml::Table;
use toml::de::DeTable;

use super::error::{ConfigError, Origin};

pub(crate) struct FileText {
    /// As the user named it, or `./pgdibs.toml`.
    pub(crate) shown: PathBuf,
    /// Where relative paths in it start. Absolute.
    pub(crate) directory: PathBuf,
    pub(crate) text: String,
}

impl FileText {
    /// Reads the file that a flag or variable (`named_by`) names, otherwise `pgdibs.toml` in the working directory if it exists.
    pub(crate) fn read(named: Option<(&str, &str)>, working_directory: &Path) -> Result<Option<Self>, ConfigError> {
        let (shown, named_by) = named.unwrap_or(("./pgdibs.toml", "default"));
        let path = working_directory.join(shown);
        let directory = path.parent().unwrap_or(working_directory).components().collect();
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Self { shown: shown.into(), directory, text })),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ConfigError(format!(
                "{named_by}: cannot read the configuration file {shown}: {error}; correct the path or leave it out (then \
                 ./pgdibs.toml is read if it exists)"
            ))),
        }
    }

    pub(crate) fn parse(&self) -> Result<Document<'_>, ConfigError> {
        // The error's own text shows the line, which may hold a secret.
        let syntax_error = |error: &toml::de::Error, problem: &str| {
            let (line, column) = self.line_and_column(error.span().map_or(self.text.len(), |span| span.start));
            let file = self.shown.display();
            ConfigError(format!("{file}, line {line}, column {column}: this is not valid TOML: {problem}"))
        };
        let keys = DeTable::parse(&self.text).map_err(|error| syntax_error(&error, error.message()))?.into_inner();
        let values =
            toml::from_str(&self.text).map_err(|error| syntax_error(&error, "numbers have at most 64 bits"))?;
        Ok(Document { file: self, keys, values })
    }

    /// Both count from 1, the column in characters.
    fn line_and_column(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }
}

/// The parsed file. serde reads the values; `toml`'s own spanned table has the positions of the keys, so that no type needs them.
pub(crate) struct Document<'a> {
    pub(crate) file: &'a FileText,
    keys: DeTable<'a>,
    pub(crate) values: Table,
}

impl Document<'_> {
    /// The line of the last key of the path that the file has.
    pub(crate) fn line(&self, path: &[&str]) -> usize {
        let mut table = Some(&self.keys);
        let mut byte = 0;
        for key in path {
            let Some((key, value)) = table.and_then(|table| table.get_key_value(*key)) else { break };
            byte = key.span().start;
            table = value.get_ref().as_table();
        }
        self.file.line_and_column(byte).0
    }

    pub(crate) fn origin(&self, path: &[&str]) -> Origin {
        Origin::File { path: self.file.shown.clone(), line: self.line(path) }
    }
}
