//! The command line parses as its help says, and says what is wrong.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::seconds::seconds;
use super::*;

fn refused(words: &[&str]) -> clap::Error {
    Cli::try_parse_from([&["pgdibs"], words].concat()).unwrap_err()
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn unknown_flags_and_commands_name_the_nearest() {
    let told = refused(&["run", "--pol", "p", "--", "true"]).to_string();
    assert!(told.contains("'--pool'"), "{told}");
    let told = refused(&["staus"]).to_string();
    assert!(told.contains("'status'"), "{told}");
    let told = refused(&["serve", "--listn", "x"]).to_string();
    assert!(told.contains("'--listen'"), "{told}");
}

#[test]
fn the_command_of_run_keeps_its_own_flags() {
    let cli =
        Cli::try_parse_from(["pgdibs", "run", "--workers", "2", "--", "pytest", "-n", "2", "--output", "x"]).unwrap();
    let Command::Run(args) = cli.command else { panic!("not run") };
    assert_eq!(args.command, ["pytest", "-n", "2", "--output", "x"]);
    assert_eq!((args.workers, cli.output), (Some(2), Format::Text));
    assert_eq!(refused(&["run"]).kind(), ErrorKind::MissingRequiredArgument);
    assert_eq!(refused(&["run", "--workers", "0", "--", "x"]).kind(), ErrorKind::ValueValidation);
    assert_eq!(refused(&["run", "--workers", "2", "--alias", "a", "--", "x"]).kind(), ErrorKind::ArgumentConflict);
}

#[test]
fn flags_of_all_commands_stand_before_or_after_the_command() {
    for words in [["--url", "http://h:1", "status", "--watch"], ["status", "--watch", "--url", "http://h:1"]] {
        let cli = Cli::try_parse_from([&["pgdibs"], words.as_slice()].concat()).unwrap();
        assert_eq!(cli.url.as_deref(), Some("http://h:1"));
    }
}

#[test]
fn waits_are_seconds_within_a_day() {
    for bad in ["-1", "NaN", "inf", "1e9", "five", ""] {
        let told = refused(&["lease", "p", &format!("--wait={bad}")]).to_string();
        assert!(told.contains("from 0 to 86400"), "{told}");
    }
    assert_eq!(seconds("0.5"), Ok(0.5));
}

#[test]
fn release_wants_a_lease_or_a_run_and_template_build_an_identity() {
    assert_eq!(refused(&["release"]).kind(), ErrorKind::MissingRequiredArgument);
    assert_eq!(refused(&["release", "a", "--run", "b"]).kind(), ErrorKind::ArgumentConflict);
    assert_eq!(refused(&["template", "build", "p", "--", "x"]).kind(), ErrorKind::MissingRequiredArgument);
    let both = ["template", "build", "p", "--fingerprint", "f", "--inputs", "*", "--", "x"];
    assert_eq!(refused(&both).kind(), ErrorKind::ArgumentConflict);
}

#[test]
fn a_variable_may_name_the_scheme_of_its_url() {
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
fn every_command_teaches() {
    for command in Cli::command().get_subcommands_mut().filter(|command| !command.is_hide_set()) {
        let name = command.get_name().to_owned();
        assert!(command.get_about().is_some(), "`pgdibs {name}` says nothing about itself");
        let help = command.render_long_help().to_string();
        assert!(help.contains("Usage:"), "{name}");
    }
}
