//! `pgdibs psql`: finds the database, its credentials and psql, and becomes psql.

use super::answer::Answer as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pgdibs::Method;
use serde_json::json;

use super::args::PsqlArgs;
use super::context::Context;
use super::error::CliError;
use pgdibs::api::database::{Credentials, Database, Databases};
use pgdibs::api::lease::Lease;
use pgdibs::connection_url::{MISLEADING, libpq_variables};
use pgdibs::{Client, segment};
use pgdibs_server::config::ServeFlags;

/// Opens psql.
///
/// # Errors
/// When there is no such database, or no psql. Otherwise this process becomes psql.
pub(super) async fn psql(context: &Context, args: PsqlArgs) -> Result<(), CliError> {
    let flags = args.pg_bin_dir.into_iter().fold(ServeFlags::default(), |flags, path| flags.with("pg_bin_dir", path));
    let config = context.load_for_client(flags)?;
    let program = find_psql(config.pg_bin_dir.as_deref())?;
    let url = credentials(&context.client()?, args.what.as_deref()).await?;
    let variables = libpq_variables(&url)?;
    let mut psql = Command::new(&program);
    for name in MISLEADING {
        psql.env_remove(name);
    }
    let error = psql.args(args.arguments).envs(variables).exec();
    Err(CliError::failed(format!("cannot run {}: {error}", program.display())))
}

/// The URL of what the user named.
async fn credentials(client: &Client, what: Option<&str>) -> Result<String, CliError> {
    if let Some(id) = what.filter(|what| uuid::Uuid::try_parse(what).is_ok()) {
        let lease: Lease = client.get(&format!("/v1/leases/{}", segment(id)?)).await?.read()?;
        return match lease.url() {
            Some(url) => Ok(url.to_owned()),
            None => {
                Err(CliError::failed(format!("the lease {id} is over")).hint("`pgdibs status` shows the live ones"))
            }
        };
    }
    let all: Databases = client.get("/v1/databases").await?.read()?;
    let database = choose(&all.databases, what)?;
    let path = format!("/v1/databases/{}/credentials", segment(&database)?);
    let found: Credentials = client.call(Method::POST, &path, Some(&json!({})), Duration::ZERO).await?.read()?;
    Ok(found.url)
}

/// The leased or kept database that was meant.
fn choose(all: &[Database], what: Option<&str>) -> Result<String, CliError> {
    let open: Vec<&Database> =
        all.iter().filter(|database| matches!(database.state.as_str(), "leased" | "kept")).collect();
    let names = |some: &[&Database]| some.iter().map(|one| one.database.as_str()).collect::<Vec<_>>().join(", ");
    let meant: Vec<&Database> = match what {
        None => open.iter().copied().filter(|database| database.state.as_str() == "leased").collect(),
        Some(what) => {
            let exact: Vec<&Database> = open.iter().copied().filter(|database| database.database == what).collect();
            let suffix = format!("_{what}");
            let ending = open.iter().copied().filter(|database| database.database.ends_with(&suffix));
            if exact.is_empty() { ending.collect() } else { exact }
        }
    };
    let state_of = |name: &str| all.iter().find(|one| one.database == name).map(|one| one.state.as_str());
    match (meant.as_slice(), what) {
        ([one], _) => Ok(one.database.clone()),
        ([], None) => Err(CliError::failed("no database is leased").hint("`pgdibs lease POOL` takes one")),
        ([], Some(what)) => {
            let why = match state_of(what) {
                Some(state) => format!("`{what}` is {state}; only leased and kept databases can be opened"),
                None => format!("no leased or kept database is called `{what}`"),
            };
            let hint = match open.is_empty() {
                true => "there is none at all; `pgdibs lease POOL` takes one".to_owned(),
                false => format!("there are {}", names(&open)),
            };
            Err(CliError::failed(why).hint(hint))
        }
        (several, None) => {
            Err(CliError::usage("several databases are leased").hint(format!("name one of {}", names(several))))
        }
        (several, Some(what)) => {
            Err(CliError::usage(format!("`{what}` may mean {}", names(several))).hint("give the whole name"))
        }
    }
}

/// psql in the configured place alone, otherwise the first of PATH, pg_config's and Debian's, highest version first.
fn find_psql(configured: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(directory) = configured {
        let program = directory.join("psql");
        return match program.is_file() {
            true => Ok(program),
            false => Err(CliError::configuration(format!("there is no psql in {}", directory.display()))
                .hint("correct --pg-bin-dir or PGDIBS_PG_BIN_DIR, or leave it out")),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(told) = Command::new("pg_config").arg("--bindir").output() {
        directories.push(PathBuf::from(String::from_utf8_lossy(&told.stdout).trim()));
    }
    directories.extend(debian_directories());
    // A relative one would take a file of that name from wherever we happen to stand.
    directories.iter().filter(|directory| directory.is_absolute()).map(|directory| directory.join("psql")).find(|program| program.is_file()).ok_or_else(|| {
        CliError::failed("psql is not on this machine").hint(
            "install it (Debian: apt-get install postgresql-client; macOS: brew install libpq), or name its directory in PGDIBS_PG_BIN_DIR",
        )
    })
}

fn debian_directories() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let mut versions: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, directory)| directory).collect()
}

#[cfg(test)]
mod tests {
    use pgdibs_testing::examples::Example;

    use super::*;

    fn databases(all: &[(&str, &str)]) -> Vec<Database> {
        all.iter()
            .map(|(database, state)| json!({"database": database, "state": state}))
            .map(|fields| serde_json::from_value(Example::Database.with(&fields)).unwrap())
            .collect()
    }

    fn told(result: Result<String, CliError>) -> String {
        match result.unwrap_err() {
            CliError::Told { sentence, hint, .. } => format!("{sentence} | {}", hint.unwrap_or_default()),
            other => other.to_string(),
        }
    }

    #[test]
    fn a_database_is_meant_by_its_name_by_its_ending_or_by_being_the_only_one() {
        let all = databases(&[("a_test_gw0", "leased"), ("a_test_gw1", "ready"), ("a_test_kept_7", "kept")]);
        assert_eq!(choose(&all, None).unwrap(), "a_test_gw0");
        assert_eq!(choose(&all, Some("gw0")).unwrap(), "a_test_gw0");
        assert_eq!(choose(&all, Some("a_test_kept_7")).unwrap(), "a_test_kept_7");
        assert_eq!(choose(&all, Some("kept_7")).unwrap(), "a_test_kept_7");
        assert_eq!(
            told(choose(&all, Some("a_test_gw1"))),
            "`a_test_gw1` is ready; only leased and kept databases can be opened | there are a_test_gw0, a_test_kept_7"
        );
    }

    #[test]
    fn what_may_mean_several_is_refused_with_all_of_them() {
        let all = databases(&[("a_gw0", "leased"), ("b_gw0", "leased")]);
        assert_eq!(told(choose(&all, Some("gw0"))), "`gw0` may mean a_gw0, b_gw0 | give the whole name");
        assert_eq!(told(choose(&all, None)), "several databases are leased | name one of a_gw0, b_gw0");
        assert_eq!(choose(&databases(&[("gw0", "leased"), ("a_gw0", "leased")]), Some("gw0")).unwrap(), "gw0");
        assert!(told(choose(&[], None)).starts_with("no database is leased"));
    }
}
