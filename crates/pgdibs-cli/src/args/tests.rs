//! Tests of the command line: parsing, errors, help.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::seconds::seconds;
use super::*;

fn parse_error(words: &[&str]) -> clap::Error {
    Cli::try_parse_from([&["pgdibs"], words].concat()).unwrap_err()
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
    for words in [["--url", "http://h:1", "status", "--watch"], ["status", "--watch", "--url", "http://h:1"]] {
        let cli = Cli::try_parse_from([&["pgdibs"], words.as_slice()].concat()).unwrap();
        assert_eq!(cli.url.as_deref(), Some("http://h:1"));
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

#[test]
fn every_command_has_help() {
    for command in Cli::command().get_subcommands_mut().filter(|command| !command.is_hide_set()) {
        let name = command.get_name().to_owned();
        assert!(command.get_about().is_some(), "`pgdibs {name}` has no description");
        let help = command.render_long_help().to_string();
        assert!(help.contains("Usage:"), "{name}");
    }
}
