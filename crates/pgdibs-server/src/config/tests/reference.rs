//! docs/configuration.md, written from the table of settings, the flags' help and the keys of a pool.
//!
//! `PGDIBS_WRITE_DOCS=1 cargo test -p pgdibs the_reference` writes it again.

use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory as _;

use super::{Cli, Given};
use crate::config::settings::{self, Kind, Setting};
use crate::config::{pools, source_table};

/// The keys of `[pools.NAME]`: key, default, meaning. `the_reference_is_fresh` fails when a key has no line here.
const POOL_KEYS: &[(&str, &str, &str)] = &[
    ("warm", "4", "databases that stand ready when nobody asks for more, 0 to 1000"),
    ("max", "32", "the most slots, ready and leased together, 1 to 1000"),
    ("spares", "2", "clones that wait behind the slots, so that a return or a reset is a rename, 0 to 1000"),
    ("keep_templates", "3", "unused templates that are kept, newest first, 0 to 1000"),
    (
        "login",
        "`plain`",
        "what a lease's login may do beyond its own database. `createdb`: make databases, for suites that do so themselves; `superuser`: \
         everything on the server. What it made is dropped when its lease has ended, not at a reset",
    ),
    ("connection_limit", "0", "most connections of one lease's login at once; 0 for no limit"),
    ("template_max_age_days", "14", "after so many days an unused template goes, the newest one excepted"),
    (
        "owner",
        "`pgdibs_NAME`",
        "the role that owns what is in a template, and as which tests act. By default each pool has one of its own, which is dropped with the pool. \
         A role that exists already is used if it is named here and is an ordinary one",
    ),
    ("strategy", "`auto`", "how clones are copied: `wal_log`, `file_copy`, or `auto`, which measures both"),
    ("extensions", "none", "extensions that the daemon makes in a template before it is built: `[\"postgis\"]`"),
    ("roles", "none", "roles that the daemon makes before a template is built; the owner becomes a member of each"),
    ("source", "none", "the table below; without it your tests build the template over HTTP"),
];

/// The keys of `[pools.NAME.source]`: key, meaning.
const SOURCE_KEYS: &[(&str, &str)] = &[
    ("sql_dir", "a directory of SQL files, run in the byte order of their names"),
    ("sql_file", "one SQL file, or what `pg_dump` writes"),
    ("command", "a program and its arguments, run without a shell; it finds the database in `DATABASE_URL` and `PG*`"),
    ("database", "a database on the same server, copied with `pg_dump`"),
    ("inputs", "globs of the files that shape the schema; a change builds a new template. A `command` needs them"),
    (
        "env",
        "a table of variables for the build: `env = { DJANGO_SETTINGS_MODULE = \"myapp.settings\" }`. In what a failed build says, values are masked whose name contains `KEY`, `PASS`, `SECRET`, `TOKEN` and the like, and URLs with a login",
    ),
    ("directory", "where the build runs; by default the directory of the file"),
    ("timeout_seconds", "how long this build may take; by default `build_timeout_seconds`"),
];

const EXAMPLE: &str = r#"listen = "127.0.0.1:7432"
max_ttl_seconds = 3600

[pools.myapp_test]
warm = 4
max = 16
extensions = ["pg_trgm"]

[pools.myapp_test.source]
command = ["alembic", "upgrade", "head"]
inputs = ["alembic.ini", "alembic/versions/*.py"]
"#;

/// What a flag's help says: the meaning with what the long help adds, and the default that it names.
fn told(setting: &Setting) -> (String, Option<String>) {
    let command = Cli::command();
    let argument = command
        .get_arguments()
        .find(|argument| argument.get_id() == setting.name)
        .unwrap_or_else(|| panic!("no flag for {}: give it one with a help text", setting.name));
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let long = argument.get_long_help().map(ToString::to_string).unwrap_or_default();
    let more = long.strip_prefix(help.as_str()).unwrap_or_default().trim().replace('\n', " ");
    let (before, rest) = help.split_once(" [default: ").unwrap_or((help.as_str(), ""));
    let (default, after) = rest.split_once(']').unwrap_or_default();
    let mut meaning = format!("{before}{after}");
    if !more.is_empty() {
        let _ = write!(meaning, ". {more}");
    }
    let plain = |text: &str| text.trim_end_matches('.').replace('|', "\\|").replace('*', "\\*");
    (plain(&meaning), (!default.is_empty()).then(|| plain(default)))
}

fn default_of(setting: &Setting, told: Option<String>) -> String {
    match (setting.default, setting.kind) {
        (Some(""), _) => "none".to_owned(),
        (Some(default), Kind::Number(low, high)) => format!("`{default}` ({low} to {high})"),
        (Some(default), _) => format!("`{default}`"),
        (None, _) => told.unwrap_or_else(|| setting.absent.trim_start_matches('(').trim_end_matches(')').to_owned()),
    }
}

fn page() -> String {
    let mut page = String::from(
        "# Configuration\n\n<!-- Written by `PGDIBS_WRITE_DOCS=1 cargo test -p pgdibs the_reference`. Change the code, not this page. -->\n\n\
         Most people set nothing: `pgdibs serve` runs, and tests make their pool over HTTP. What there is to set, as a file `pgdibs.toml` \
         in the directory where the daemon runs:\n\n",
    );
    let _ = write!(page, "```toml\n{EXAMPLE}```\n\n");
    page.push_str(
        "Every setting has three places, and the first one that says anything wins: a **flag** (`--data-dir`), a **variable** \
         (`PGDIBS_DATA_DIR`), the **file** (`data_dir = \"…\"`). A variable that is set but empty says nothing. `--config PATH` or \
         `PGDIBS_CONFIG` names another file. `pgdibs config` shows each setting, its value and where it came from, secrets masked.\n\n\
         ## Settings of the daemon\n\n| setting | default | meaning |\n|---|---|---|\n",
    );
    for setting in settings::SETTINGS {
        let (mut meaning, told) = told(setting);
        if setting.flag_only {
            meaning.push_str(". A flag only");
        }
        let _ = writeln!(page, "| `{}` | {} | {meaning} |", setting.name, default_of(setting, told));
    }
    page.push_str(
        "\nA secret and the file that holds it (`token`, `token_file`) are one setting: give one of them. Relative paths start at the working \
         directory, in the file at the file's own directory.\n\n## A pool: `[pools.NAME]`\n\n\
         A name is 1 to 40 small letters, digits and underscores, and not `owner` or `l_` with digits. What a pool is not given keeps the value that the pool has.\n\n\
         | key | default | meaning |\n|---|---|---|\n",
    );
    for (key, default, meaning) in POOL_KEYS {
        let _ = writeln!(page, "| `{key}` | {default} | {meaning} |");
    }
    page.push_str(
        "\n## What its template is built from: `[pools.NAME.source]`\n\n\
         Exactly one of `sql_dir`, `sql_file`, `command` and `database`.\n\n| key | meaning |\n|---|---|\n",
    );
    for (key, meaning) in SOURCE_KEYS {
        let _ = writeln!(page, "| `{key}` | {meaning} |");
    }
    page.push_str(
        "\n## Other variables\n\nThe daemon warns about a variable `PGDIBS_…` that nobody reads. These are read or set by others:\n\n\
         | variable | meaning |\n|---|---|\n",
    );
    for (name, meaning) in settings::KNOWN_TO_OTHERS {
        let _ = writeln!(page, "| `{name}` | {meaning} |");
    }
    page.push_str("\n[The settings of the pytest plugin](python/pytest.md) have a page of their own.\n");
    page
}

#[test]
fn the_reference_is_fresh() {
    let mut described: Vec<&str> = POOL_KEYS.iter().map(|(key, _, _)| *key).collect();
    let mut known: Vec<&str> = pools::belong_to_a_pool().into_iter().map(|(key, _)| key).collect();
    described.sort_unstable();
    known.sort_unstable();
    assert_eq!(described, known, "POOL_KEYS in this file has a line for each key of a pool");
    let described: Vec<&str> = SOURCE_KEYS.iter().map(|(key, _)| *key).collect();
    assert_eq!(described, source_table::KEYS, "SOURCE_KEYS in this file has a line for each key of a source");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("PGDIBS_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        written,
        page(),
        "docs/configuration.md is stale: PGDIBS_WRITE_DOCS=1 cargo test -p pgdibs the_reference"
    );
}

#[test]
fn the_example_of_the_reference_is_accepted() {
    let loaded = Given::nothing().file(EXAMPLE).load().unwrap();
    assert_eq!(loaded.config.pools.len(), 1);
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn the_defaults_of_pools_in_the_reference_are_those_of_the_code() {
    let code = pgdibs_core::pool::PoolSettings::of(&pgdibs_core::name::PoolName::parse("shop").unwrap());
    let days = code.template_max_age_seconds / 86_400;
    let of_code = [
        ("warm", code.warm.to_string()),
        ("max", code.max.to_string()),
        ("spares", code.spares.to_string()),
        ("keep_templates", code.keep_templates.to_string()),
        ("template_max_age_days", days.to_string()),
        ("owner", format!("`{}`", code.owner.as_str().replace("shop", "NAME"))),
        ("login", format!("`{}`", code.login.as_str())),
        ("connection_limit", code.connection_limit.to_string()),
    ];
    for (key, default) in of_code {
        let written = POOL_KEYS.iter().find(|(name, _, _)| *name == key).map(|(_, default, _)| *default);
        assert_eq!(written, Some(default.as_str()), "{key}");
    }
}
