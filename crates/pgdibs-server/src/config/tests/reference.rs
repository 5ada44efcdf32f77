//! docs/configuration.md, written from the declarations of the tables.
//!
//! `PGDIBS_WRITE_DOCS=1 cargo nextest run --workspace -E 'test(the_reference)'` writes it again.

use std::path::Path;

use super::Given;
use crate::config::pools::PoolTable;
use crate::config::settings::Config;
use crate::config::source_table::SourceTable;
use crate::config::table::{Key, Scope};
use crate::config::types::Kind;
use crate::config::variables;

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

const PAGE: &str = "\
# Configuration

<!-- Written by `PGDIBS_WRITE_DOCS=1 cargo nextest run --workspace -E 'test(the_reference)'`. Change the code, not this page. -->

Most people set nothing: `pgdibs serve` runs, and tests create their pool over HTTP. What there is to set, as a file `pgdibs.toml` in the directory where the daemon runs:

```toml
EXAMPLE```

Every setting has three places, and the first one that has a value wins: a **flag** (`--data-dir`), a **variable** (`PGDIBS_DATA_DIR`), the **file** (`data_dir = \"…\"`). An empty variable counts as unset. `--config PATH` or `PGDIBS_CONFIG` names another file. `pgdibs config` shows each setting, its value and where it came from, secrets masked.

## Settings of the daemon

| setting | default | meaning |
|---|---|---|
SETTINGS
A secret and the file that holds it (`token`, `token_file`) are one setting: give one of them. Relative paths start at the working directory, in the file at the file's own directory.

## A pool: `[pools.NAME]`

A name is 1 to 40 small letters, digits and underscores, does not start with a digit, and is not `owner` or `l_` with digits. A key that the file does not have keeps the value that the pool has.

| key | default | meaning |
|---|---|---|
POOL
## What its template is built from: `[pools.NAME.source]`

Exactly one of `sql_dir`, `sql_file`, `command` and `database`.

| key | default | meaning |
|---|---|---|
SOURCE
## Other variables

The daemon warns about a variable `PGDIBS_…` that has no effect. Other parts of pgdibs read or set these:

| variable | meaning |
|---|---|
VARIABLES
[The settings of the pytest plugin](python/pytest.md) have a page of their own.
";

/// One row of Markdown.
fn row(key: &Key) -> String {
    let default = match key.default.strip_prefix('(') {
        Some(description) => description.trim_end_matches(')').to_owned(),
        None => format!("`{}`", key.default),
    };
    let bounds = match key.kind {
        Kind::Integer(low, high) => format!(" ({low} to {high})"),
        _ => String::new(),
    };
    let lines = key.help.iter().map(|line| if line.is_empty() { "." } else { *line });
    let meaning = lines.collect::<String>().trim().trim_end_matches('.').to_owned();
    let only = if key.scope == Scope::FlagOnly { ". A flag only" } else { "" };
    format!("| `{}` | {default}{bounds} | {meaning}{only} |\n", key.name)
}

fn page() -> String {
    let settings = Config::KEYS.iter().filter(|key| key.scope != Scope::FileOnly);
    let variables = variables::OF_OTHER_PARTS.iter().map(|(name, meaning)| format!("| `{name}` | {meaning} |\n"));
    PAGE.replace("EXAMPLE", EXAMPLE)
        .replace("SETTINGS\n", &format!("{}\n", settings.map(row).collect::<String>()))
        .replace("POOL\n", &format!("{}\n", PoolTable::KEYS.iter().map(row).collect::<String>()))
        .replace("SOURCE\n", &format!("{}\n", SourceTable::KEYS.iter().map(row).collect::<String>()))
        .replace("VARIABLES\n", &format!("{}\n", variables.collect::<String>()))
}

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("PGDIBS_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, page(), "docs/configuration.md is stale; the first lines of this file say how to write it");
}

#[test]
fn the_reference_has_an_example_that_loads() {
    let loaded = Given::nothing().file(EXAMPLE).load().unwrap();
    assert_eq!(loaded.config.pools.len(), 1);
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn the_reference_has_the_pool_defaults_of_core() {
    let code = pgdibs_core::pool::PoolSettings::of(&pgdibs_core::name::PoolName::parse("shop").unwrap());
    let days = code.template_max_age_seconds / 86_400;
    let of_code = [
        ("warm", code.warm.to_string()),
        ("max", code.max.to_string()),
        ("spares", code.spares.to_string()),
        ("keep_templates", code.keep_templates.to_string()),
        ("template_max_age_days", days.to_string()),
        ("idle_pool_seconds", code.idle_pool_seconds.to_string()),
        ("owner", code.owner.as_str().replace("shop", "NAME")),
        ("login", code.login.as_str().to_owned()),
        ("act_as", code.act_as.as_str().to_owned()),
        ("connection_limit", code.connection_limit.to_string()),
    ];
    for (name, default) in of_code {
        let key = PoolTable::KEYS.iter().find(|key| key.name == name).unwrap();
        assert_eq!(key.default, default, "{name}");
    }
}
