//! Where words go: results to standard output, everything said about them to standard error.

use std::io::{self, ErrorKind, IsTerminal, Write};

use serde::Serialize;

use super::error::CliError;

/// How results look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Format {
    /// For people; what a script needs stands alone on its line.
    #[default]
    Text,
    /// The API's JSON, for machines.
    Json,
}

/// Writes results and messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// How results look.
    pub(super) format: Format,
    /// Standard output shows colours.
    pub(super) colour: bool,
}

impl Output {
    /// Colours only where a person sees them and has not asked for none (`NO_COLOR`, see no-color.org).
    pub(super) fn new(format: Format) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { format, colour: io::stdout().is_terminal() && !refused && !dumb }
    }

    /// True when results are JSON.
    pub(super) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Writes one result as text, with a line end if it has none.
    ///
    /// # Errors
    /// When nobody reads standard output any more, or it cannot be written.
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

    /// The API's JSON when it was asked for, else the text.
    ///
    /// # Errors
    /// As [`Output::text`].
    pub(super) fn result(self, json: &serde_json::Value, text: impl FnOnce() -> String) -> Result<(), CliError> {
        if self.is_json() { self.json(json) } else { self.text(&text()) }
    }

    /// Says something about the work on standard error, when results are for people.
    pub(super) fn say(self, text: &str) {
        if !self.is_json() {
            message(text);
        }
    }
}

/// A line on standard error. When that is closed there is nobody left to tell.
pub(super) fn message(text: &str) {
    let _nobody_to_tell = writeln!(io::stderr().lock(), "pgdibs: {text}");
}

/// Tells why the command ends: one sentence, the way out, and the exit code.
pub(super) fn tell(error: &CliError) -> u8 {
    match error {
        CliError::OutputClosed => 0,
        CliError::Told { sentence, hint, exit } => {
            message(sentence);
            if let Some(hint) = hint {
                let _nobody_to_tell = writeln!(io::stderr().lock(), "hint: {hint}");
            }
            *exit
        }
    }
}
