//! `[pools.NAME.source]`: what the daemon builds a pool's template from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::table::table;
use super::types::{BoundedInteger, Identifier, SettingType, parsed, path};
use pgdibs_sources::{FileGlob, Source, SourceKind};

table! {
    /// Exactly one of the first four keys is given.
    SourceTable {
        /// a directory of SQL files or migrations, run in the order of their names with versions by value: `V2__b.sql` before `V10__a.sql`.
        /// Of pairs (`1_a.up.sql` and `1_a.down.sql`) the first half runs; a folder for each migration has `up.sql` or `migration.sql`. A
        /// directory that mixes these conventions is refused
        #[serde(default, deserialize_with = "path")]
        sql_dir: Option<PathBuf> = "(none)";
        /// one SQL file, or what `pg_dump` writes in any format, also compressed with gzip
        #[serde(default, deserialize_with = "path")]
        sql_file: Option<PathBuf> = "(none)";
        /// a program and its arguments, run without a shell; it finds the database in `DATABASE_URL` and `PG*`
        command: Option<Command> = "(none)";
        /// a database on the same server, copied with `pg_dump`, again when its schema changes
        #[serde(default, deserialize_with = "parsed")]
        database: Option<Identifier> = "(none)";
        /// a `database` source is copied again at this interval, although its schema is unchanged; 86400 is each day at midnight UTC
        refresh_seconds: Option<BoundedInteger<10, 31_536_000>> = "(never)";
        /// globs of the files that shape the schema; a change builds a new template. A `command` needs them
        inputs: Option<Vec<String>> = "(none)";
        /// a table of variables for the build: `env = { DJANGO_SETTINGS_MODULE = "myapp.settings" }`. In what a failed build says,
        /// values are masked whose name contains `KEY`, `PASS`, `SECRET`, `TOKEN` and the like, and URLs with a login
        env: Option<BTreeMap<String, SecretString>> = "(none)";
        /// where the build runs
        #[serde(default, deserialize_with = "path")]
        directory: Option<PathBuf> = "(the directory of the file)";
        /// how long this build may take
        timeout_seconds: Option<BoundedInteger<1, 86_400>> = "(`build_timeout_seconds`)";
        /// a build that makes no relation, type, function, extension, schema or setting is a success
        allow_empty: Option<bool> = "false";
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected an array of strings")]
pub enum Command {
    Array(Vec<String>),
    Line(String),
}

impl SettingType for Command {}

impl SettingType for SourceTable {}

const SET_BY_PGDIBS: [&str; 6] = ["DATABASE_URL", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"];

/// A key of the table (empty for the table itself) and what is wrong with it.
type Problem = (String, String);

fn problem<T>(key: impl Into<String>, problem: impl Into<String>) -> Result<T, Problem> {
    Err((key.into(), problem.into()))
}

impl SourceTable {
    /// Relative paths start at `base`. The first build finds out whether the files exist, since they may appear while the daemon runs.
    pub(super) fn into_source(self, base: &Path) -> Result<Source, Problem> {
        let kinds = [
            self.sql_dir.map(|path| SourceKind::SqlDir(base.join(path))),
            self.sql_file.map(|path| SourceKind::SqlFile(base.join(path))),
            self.command.map(|command| command.into_arguments().map(SourceKind::Command)).transpose()?,
            self.database.map(|name| SourceKind::Database(name.0)),
        ];
        let kinds: Vec<SourceKind> = kinds.into_iter().flatten().collect();
        let [kind] = kinds.as_slice() else {
            let given = kinds.iter().map(SourceKind::key).collect::<Vec<_>>().join(" and ");
            let given = if given.is_empty() { "none" } else { &given };
            return problem("", format!("expected exactly one of sql_dir, sql_file, command, database, found {given}"));
        };
        let runs =
            [("inputs", self.inputs.is_some()), ("env", self.env.is_some()), ("directory", self.directory.is_some())];
        if let (SourceKind::Database(_), Some((key, _))) = (kind, runs.iter().find(|(_, given)| *given)) {
            return problem(
                *key,
                "it has no meaning for a `database` source, which is copied and not run; leave it out",
            );
        }
        if self.refresh_seconds.is_some() && !matches!(kind, SourceKind::Database(_)) {
            return problem("refresh_seconds", "it has a meaning for a `database` source only; leave it out");
        }
        let refresh = self.refresh_seconds.map(BoundedInteger::seconds);
        let mut inputs = Vec::new();
        for pattern in self.inputs.iter().flatten() {
            match FileGlob::parse(pattern) {
                Ok(glob) => inputs.push(glob),
                Err(error) => return problem("inputs", format!("`{pattern}` is not a glob: {}", error.kind())),
            }
        }
        if inputs.is_empty() && matches!(kind, SourceKind::Command(_)) {
            return problem(
                "inputs",
                "a `command` source needs `inputs`, the globs of the files it reads (such as inputs = [\"migrations/**/*.py\"]): \
                 only a change of these files builds the template again, and without them an old schema would be served for ever",
            );
        }
        let directory = self.directory.map_or_else(|| base.to_owned(), |path| base.join(path));
        let timeout = self.timeout_seconds.map(BoundedInteger::seconds);
        let env = self.env.unwrap_or_default();
        check_variables(&env)?;
        let (base, allow_empty) = (base.to_owned(), self.allow_empty.unwrap_or_default());
        Ok(Source { kind: kind.clone(), inputs, base, env, directory, timeout, refresh, allow_empty })
    }
}

impl Command {
    fn into_arguments(self) -> Result<Vec<String>, Problem> {
        match self {
            Self::Array(arguments) if arguments.first().is_none_or(String::is_empty) => {
                problem("command", "the program is missing: the first string is the program, the others its arguments")
            }
            Self::Array(arguments) => Ok(arguments),
            Self::Line(line) => {
                let words = line.split_whitespace().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
                problem(
                    "command",
                    format!(
                        "expected an array of the program and its arguments, since no shell splits a string: command = [{words}]"
                    ),
                )
            }
        }
    }
}

fn check_variables(env: &BTreeMap<String, SecretString>) -> Result<(), Problem> {
    for (name, value) in env {
        let key = format!("env.{name}");
        if name.is_empty() || name.contains(['=', '\0']) || value.expose_secret().contains('\0') {
            return problem(
                key,
                "a variable's name is not empty and has no `=` in it, and neither name nor value has a NUL",
            );
        }
        if SET_BY_PGDIBS.contains(&name.as_str()) {
            return problem(
                key,
                format!(
                    "pgdibs sets this variable itself, to the database that is being built; leave it out, and give another form of it \
                     with a command such as [\"sh\", \"-c\", \"OTHER_URL=${name} exec ...\"]"
                ),
            );
        }
    }
    Ok(())
}
