//! Tests of the configuration. None reads the process's own environment or working directory.

mod pools;
mod precedence;
mod reference;
mod secrets;
mod sentences;

use clap::Parser as _;

use super::{ConfigError, GlobalFlags, Loaded, ServeFlags, load};

#[derive(Debug, clap::Parser)]
struct Cli {
    #[command(flatten)]
    global: GlobalFlags,
    #[command(flatten)]
    serve: ServeFlags,
}

/// A directory with (or without) a `pgdibs.toml`, variables and flags.
pub(super) struct Given {
    pub(super) directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
    flags: Vec<String>,
}

impl Given {
    pub(super) fn nothing() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, variables: Vec::new(), flags: vec!["pgdibs".to_owned()] }
    }

    pub(super) fn file(self, text: &str) -> Self {
        self.file_at("pgdibs.toml", text)
    }

    pub(super) fn file_at(self, name: &str, text: &str) -> Self {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    pub(super) fn load(&self) -> Result<Loaded, ConfigError> {
        let cli = Cli::try_parse_from(&self.flags).unwrap();
        load((&cli.global, &cli.serve), self.variables.clone(), self.directory.path())
    }

    /// The error's text; `DIR` stands for the test's directory.
    #[track_caller]
    pub(super) fn error(&self) -> String {
        let error = self.load().expect_err("this configuration should not load");
        error.to_string().replace(&self.directory.path().display().to_string(), "DIR")
    }
}

/// `value · origin` of one row.
#[track_caller]
pub(super) fn row(loaded: &Loaded, setting: &str) -> String {
    let row = loaded.rows.iter().find(|row| row.setting == setting).unwrap_or_else(|| panic!("no row {setting}"));
    format!("{} · {}", row.value, row.origin)
}
