//! Writes results to standard output and messages to standard error.

use std::io::{self, ErrorKind, IsTerminal, Write};

use serde::Serialize;

use super::error::CliError;

/// The format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Format {
    /// For people; what a script needs is alone on its line.
    #[default]
    Text,
    /// The API's JSON, for machines.
    Json,
}

/// Writes results and messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub(super) format: Format,
    pub(super) colour: bool,
}

impl Output {
    /// Colours only on a terminal, and not with `NO_COLOR` (no-color.org).
    pub(super) fn new(format: Format) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { format, colour: io::stdout().is_terminal() && !no_color && !dumb }
    }

    pub(super) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Writes one result as text, with a line end if it has none.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub(super) fn text(self, text: &str) -> Result<(), CliError> {
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let mut stdout = io::stdout().lock();
        match write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(CliError::OutputClosed),
            Err(error) => Err(CliError::failed(format!("cannot write to standard output: {error}"))),
        }
    }

    /// Writes one result as JSON, on one line.
    ///
    /// # Errors
    /// As [`Output::text`].
    pub(super) fn json<T: Serialize>(self, value: &T) -> Result<(), CliError> {
        match serde_json::to_string(value) {
            Ok(text) => self.text(&text),
            Err(error) => Err(CliError::failed(format!("cannot write the result as JSON: {error}"))),
        }
    }

    /// Writes one result: `json` with `--output json`, otherwise `text`.
    ///
    /// # Errors
    /// As [`Output::text`].
    pub(super) fn result(self, json: &serde_json::Value, text: impl FnOnce() -> String) -> Result<(), CliError> {
        if self.is_json() { self.json(json) } else { self.text(&text()) }
    }

    /// Writes the result of a command that has none: `{}` with `--output json`, otherwise `text` to standard error.
    ///
    /// # Errors
    /// As [`Output::text`].
    pub(super) fn done(self, text: &str) -> Result<(), CliError> {
        self.info(text);
        if self.is_json() { self.json(&serde_json::json!({})) } else { Ok(()) }
    }

    /// Writes a message to standard error, unless results are JSON.
    pub(super) fn info(self, text: &str) {
        if !self.is_json() {
            message(text);
        }
    }
}

/// Writes a line to standard error, if that is open.
pub(super) fn message(text: &str) {
    let _closed = writeln!(io::stderr().lock(), "pgdibs: {text}");
}

/// Writes an error to standard error, as message and hint or as a JSON object on one line; returns the exit code.
pub(super) fn print_error(error: &CliError, format: Format) -> u8 {
    match error {
        CliError::OutputClosed => 0,
        CliError::Failure { exit_code, .. } if format == Format::Json => {
            let _closed = writeln!(io::stderr().lock(), "{}", error.json());
            *exit_code
        }
        CliError::Failure { message: text, hint, exit_code, .. } => {
            message(text);
            if let Some(hint) = hint {
                let _closed = writeln!(io::stderr().lock(), "hint: {hint}");
            }
            *exit_code
        }
    }
}
