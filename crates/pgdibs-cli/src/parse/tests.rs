//! Tests of the command line: parsing, errors, help.

mod documented;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::{command, parse, wants_json};
use crate::args::run::Assignment;
use crate::args::seconds::seconds;
use crate::args::*;
use crate::output::Format;

fn parse_error(words: &[&str]) -> clap::Error {
    let words: Vec<OsString> = ["pgdibs"].iter().chain(words).map(OsString::from).collect();
    parse(&words).unwrap_err()
}

#[test]
fn definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn unknown_flag_or_command_gets_suggestion() {
    let message = parse_error(&["run", "--pol", "p", "--", "true"]).to_string();
    assert!(message.contains("'--pool'"), "{message}");
    let message = parse_error(&["staus"]).to_string();
    assert!(message.contains("'status'"), "{message}");
    let message = parse_error(&["serve", "--listn", "x"]).to_string();
    assert!(message.contains("'--listen'"), "{message}");
}

/// Regression: clap found `release` similar to `list`, and `--fingerprint` to `--print`.
#[test]
fn far_name_gets_no_suggestion() {
    for words in [&["list"][..], &["drop"], &["ls"], &["lease", "p", "--print"], &["run", "--work", "2", "--", "x"]] {
        let message = parse_error(words).to_string();
        assert!(!message.contains("similar"), "{words:?}: {message}");
    }
}

#[test]
fn command_without_separator_is_explained() {
    for (words, expected) in [
        (
            &["run", "psql", "-c", "select 1"][..],
            "the command to run comes after --:\n\n  pgdibs run -- psql -c 'select 1'\n",
        ),
        (&["run", "--workers", "2", "pytest"], "  pgdibs run --workers 2 -- pytest\n"),
        (
            &["template", "build", "p", "--fingerprint", "f", "alembic", "upgrade", "head"],
            "the command that fills the database comes after --:\n\n  pgdibs template build p --fingerprint f -- alembic upgrade head\n",
        ),
        (
            &["psql", "gw0", "-c", "select 1"],
            "arguments for psql come after --:\n\n  pgdibs psql gw0 -- -c 'select 1'\n",
        ),
    ] {
        let error = parse_error(words);
        assert_eq!(error.kind(), ErrorKind::UnknownArgument);
        assert!(error.to_string().contains(expected), "{words:?}: {error}");
    }
    for words in [&["status", "psql"][..], &["run", "--frob", "--", "x"], &["lease", "p", "q"]] {
        let message = parse_error(words).to_string();
        assert!(message.contains("unexpected argument") && !message.contains("comes after"), "{words:?}: {message}");
    }
}

#[test]
fn wants_json_reads_words_before_separator() {
    let wants = |words: &[&str]| wants_json(&words.iter().map(OsString::from).collect::<Vec<_>>());
    assert!(wants(&["x", "--output", "json", "--frob"]) && wants(&["x", "--output=json"]));
    assert!(!wants(&["x", "--output", "text"]) && !wants(&["x", "run", "--", "y", "--output", "json"]));
}

#[test]
fn command_of_run_keeps_its_own_flags() {
    let cli =
        Cli::try_parse_from(["pgdibs", "run", "--workers", "2", "--", "pytest", "-n", "2", "--output", "x"]).unwrap();
    let Command::Run(args) = cli.command else { panic!("not run") };
    assert_eq!(args.command, ["pytest", "-n", "2", "--output", "x"]);
    assert_eq!((args.workers, cli.output), (Some(2), Format::Text));
    assert_eq!(parse_error(&["run"]).kind(), ErrorKind::MissingRequiredArgument);
    assert_eq!(parse_error(&["run", "--workers", "0", "--", "x"]).kind(), ErrorKind::ValueValidation);
    assert_eq!(parse_error(&["run", "--workers", "2", "--alias", "a", "--", "x"]).kind(), ErrorKind::ArgumentConflict);
}

#[test]
fn global_flags_parse_before_and_after_command() {
    for words in [
        &["--url", "http://h:1", "--log", "debug", "status"][..],
        &["status", "--url", "http://h:1", "--log", "debug"],
        &["template", "list", "--url", "http://h:1", "--log", "debug"],
        &["template", "--url", "http://h:1", "list", "--log", "debug"],
    ] {
        let words: Vec<OsString> = ["pgdibs"].iter().chain(words).map(OsString::from).collect();
        let cli = parse(&words).unwrap();
        assert_eq!((cli.url.as_deref(), cli.global.get("log")), (Some("http://h:1"), Some("debug")), "{words:?}");
    }
}

#[test]
fn wait_accepts_seconds_up_to_one_day() {
    for bad in ["-1", "NaN", "inf", "1e9", "five", ""] {
        let message = parse_error(&["lease", "p", &format!("--wait={bad}")]).to_string();
        assert!(message.contains("from 0 to 86400"), "{message}");
    }
    assert_eq!(seconds("0.5"), Ok(0.5));
}

#[test]
fn release_and_template_build_require_one_identity() {
    assert_eq!(parse_error(&["release"]).kind(), ErrorKind::MissingRequiredArgument);
    assert_eq!(parse_error(&["release", "a", "--run", "b"]).kind(), ErrorKind::ArgumentConflict);
    assert_eq!(parse_error(&["template", "build", "p", "--", "x"]).kind(), ErrorKind::MissingRequiredArgument);
    let both = ["template", "build", "p", "--fingerprint", "f", "--inputs", "*", "--", "x"];
    assert_eq!(parse_error(&both).kind(), ErrorKind::ArgumentConflict);
}

#[test]
fn env_flag_parses_variable_and_scheme() {
    let parsed = |text: &str| text.parse::<Assignment>();
    let asyncpg = Assignment { variable: "A_1".to_owned(), scheme: Some("postgresql+asyncpg".to_owned()) };
    assert_eq!(parsed("A_1=postgresql+asyncpg"), Ok(asyncpg.clone()));
    assert_eq!(parsed("A_1=postgresql+asyncpg://"), Ok(asyncpg));
    assert_eq!(parsed("A"), Ok(Assignment { variable: "A".to_owned(), scheme: None }));
    for bad in ["", "=x", "1A", "A-B=x", "A=", "A=x y", "A=postgresql://h"] {
        assert!(parsed(bad).is_err(), "{bad}");
    }
}

/// Regression: the help of `pgdibs release` showed six global options among its own, and no example.
#[test]
fn help_has_own_options_an_example_and_one_line_on_global_ones() {
    let mut command = command();
    command.build();
    let help = command.render_long_help().to_string();
    assert!(help.contains("Global options:") && help.contains("--log-format <FORMAT>"), "{help}");
    let mut queue: Vec<clap::Command> =
        command.get_subcommands().filter(|one| one.get_name() != "help").cloned().collect();
    while let Some(mut command) = queue.pop() {
        let name = command.get_bin_name().unwrap_or_default().to_owned();
        assert!(command.get_about().is_some(), "`{name}` has no description");
        for help in [command.render_help().to_string(), command.render_long_help().to_string()] {
            let line = "Global options, explained by `pgdibs --help`:\n  --url, --output, ";
            assert!(help.contains("Usage:") && help.contains(line), "{name}: {help}");
            assert_eq!(help.matches("--log-format").count(), 1, "{name}: {help}");
        }
        let help = command.render_long_help().to_string();
        let subcommands: Vec<clap::Command> =
            command.get_subcommands().filter(|one| one.get_name() != "help").cloned().collect();
        assert!(!subcommands.is_empty() || help.contains("Example"), "{name} has no example: {help}");
        queue.extend(subcommands);
    }
}
