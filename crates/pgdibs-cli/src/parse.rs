//! Parses the words of a command line: help without the global options, a sentence about a missing `--`, suggestions for near names.

#[cfg(test)]
mod tests;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, Error, FromArgMatches};
use pgdibs_server::config::suggestion;

use crate::args::Cli;

/// Parses a command line, the program's name included.
///
/// # Errors
/// The words are wrong, or ask for help or the version.
pub(crate) fn parse(words: &[OsString]) -> Result<Cli, Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words).map_err(|error| {
        let explained = missing_separator(&error, words).map(|(path, sentence)| {
            let of_path = path.iter().try_fold(&mut command, |command, name| command.find_subcommand_mut(name));
            let error = Error::raw(ErrorKind::UnknownArgument, sentence);
            match of_path {
                Some(command) => error.format(command),
                None => error,
            }
        });
        explained.unwrap_or_else(|| without_far_suggestions(error))
    })?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Whether the words ask for JSON, also when they are wrong otherwise.
pub(crate) fn wants_json(words: &[OsString]) -> bool {
    let own: Vec<_> = words.iter().take_while(|word| *word != "--").collect();
    own.iter().any(|word| *word == "--output=json")
        || own.windows(2).any(|two| two[0] == "--output" && two[1] == "json")
}

/// The command line with help that shows the options of a command first and names the global ones in one line.
pub(crate) fn command() -> Command {
    let command = Cli::command();
    let global: Vec<Arg> = command.get_arguments().filter(|argument| argument.is_global_set()).cloned().collect();
    let names: Vec<String> = global.iter().filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect();
    let line = format!("Global options, explained by `pgdibs --help`:\n  {}", names.join(", "));
    let hidden: Vec<Arg> = global.into_iter().map(|argument| argument.hide(true)).collect();
    command.mut_subcommands(|subcommand| with_short_help(subcommand, &hidden, &line))
}

/// clap does not pass a global option on to a subcommand that has it already.
fn with_short_help(command: Command, hidden: &[Arg], line: &str) -> Command {
    let appended = |help: Option<&clap::builder::StyledStr>| match help {
        Some(help) => format!("{help}\n\n{line}"),
        None => line.to_owned(),
    };
    let short = appended(command.get_after_help());
    let long = appended(command.get_after_long_help().or(command.get_after_help()));
    let command = command.args(hidden.iter().cloned()).after_help(short).after_long_help(long);
    command.mut_subcommands(|subcommand| with_short_help(subcommand, hidden, line))
}

/// The subcommand and the sentence about its command, or its arguments of psql, that do not follow `--`.
fn missing_separator(error: &Error, words: &[OsString]) -> Option<(&'static [&'static str], String)> {
    let Some(ContextValue::String(invalid)) = error.get(ContextKind::InvalidArg) else { return None };
    if error.kind() != ErrorKind::UnknownArgument || words.iter().any(|word| word == "--") {
        return None;
    }
    let at = words.iter().position(|word| word.to_str().is_some_and(|word| word.split('=').next() == Some(invalid)))?;
    let (own, command) = words.split_at(at);
    let is_option = invalid.starts_with('-');
    let names: Vec<&str> = own.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let (path, what): (&[&str], _) = match names.iter().find(|name| !name.starts_with('-')).copied()? {
        "run" if !is_option => (&["run"], "the command to run comes after --"),
        "template" if names.contains(&"build") && !is_option => {
            (&["template", "build"], "the command that fills the database comes after --")
        }
        "psql" => (&["psql"], "arguments for psql come after --"),
        _ => return None,
    };
    let written =
        |words: &[OsString]| words.iter().map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ");
    Some((path, format!("{what}:\n\n  pgdibs {} -- {}", written(own.get(1..)?), written(command))))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "+,-./:=@_%".contains(c);
    match !word.is_empty() && word.chars().all(harmless) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// clap suggests names by a measure that calls `list` similar to `release`.
fn without_far_suggestions(mut error: Error) -> Error {
    let written = [ContextKind::InvalidSubcommand, ContextKind::InvalidArg, ContextKind::InvalidValue];
    let written = written.into_iter().find_map(|kind| match error.get(kind) {
        Some(ContextValue::String(written)) => Some(written.trim_start_matches('-').to_owned()),
        _ => None,
    });
    let Some(written) = written else { return error };
    let is_near = |name: &&String| suggestion(&written, [name.trim_start_matches('-')]).is_some();
    for kind in [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue] {
        let near: Vec<String> = match error.get(kind) {
            Some(ContextValue::String(name)) => [name].into_iter().filter(is_near).cloned().collect(),
            Some(ContextValue::Strings(names)) => names.iter().filter(is_near).cloned().collect(),
            _ => continue,
        };
        error.remove(kind);
        if !near.is_empty() {
            error.insert(kind, ContextValue::Strings(near));
        }
    }
    error
}
