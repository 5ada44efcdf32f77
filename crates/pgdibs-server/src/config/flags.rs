//! The flags that stand for settings. Flags, variables and the file are read in one place, so that all three give the same errors.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Command};
use secrecy::{ExposeSecret as _, SecretString};

use super::settings::Config;
use super::table::{Key, Scope};
use super::types::Kind;

/// The settings that every command takes as flags, and `--config`.
pub type GlobalFlags = SettingFlags<true>;
/// The settings that commands which run a daemon take as flags.
pub type ServeFlags = SettingFlags<false>;

/// The flags that were given, by setting. Each may be a secret.
#[derive(Debug, Clone, Default)]
pub struct SettingFlags<const GLOBAL: bool>(BTreeMap<&'static str, SecretString>);

impl<const GLOBAL: bool> SettingFlags<GLOBAL> {
    pub fn get(&self, setting: &str) -> Option<&str> {
        self.0.get(setting).map(|text| text.expose_secret())
    }

    /// As if the flag had been given.
    pub fn with(mut self, setting: &'static str, text: impl Into<SecretString>) -> Self {
        self.0.insert(setting, text.into());
        self
    }

    fn keys() -> impl Iterator<Item = &'static Key> {
        let flags = Config::KEYS.iter().filter(|key| key.scope != Scope::FileOnly);
        flags.chain([&CONFIG]).filter(|key| (key.scope == Scope::Global) == GLOBAL)
    }
}

impl<const GLOBAL: bool> clap::Args for SettingFlags<GLOBAL> {
    fn augment_args(command: Command) -> Command {
        command.args(Self::keys().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const GLOBAL: bool> clap::FromArgMatches for SettingFlags<GLOBAL> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given =
            Self::keys().filter_map(|key| Some((key.name, matches.get_one::<String>(key.name)?.as_str().into())));
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

const CONFIG: Key = Key {
    name: "config",
    help: &[
        "The configuration file",
        "Flags win over PGDIBS_* variables, those over the file. `pgdibs config` shows every setting and where its value came from.",
    ],
    kind: Kind::Text,
    default: "(./pgdibs.toml if it exists; PGDIBS_CONFIG)",
    value_name: "PATH",
    scope: Scope::Global,
};

/// The short help is the doc comment's first line and the default.
fn argument(key: &Key) -> Arg {
    let mut help = key.help[0].trim().to_owned();
    if !key.default.starts_with("(none") && key.kind != Kind::Boolean {
        help.push_str(&format!(" [default: {}]", key.default.trim_matches(['(', ')'])));
    }
    let long_help = format!("{help}\n\n{}", key.help[1..].concat().trim());
    let argument = Arg::new(key.name).long(key.name.replace('_', "-")).value_name(key.value_name).help(help);
    let argument = argument.long_help(long_help.trim_end().to_owned()).global(key.scope == Scope::Global);
    match key.kind {
        Kind::Boolean => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => argument,
    }
}
