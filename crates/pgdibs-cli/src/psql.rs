//! `pgdibs psql`: finds the database, its credentials and psql, and replaces this process by psql.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pgdibs::Method;
use serde_json::json;

use super::args::PsqlArgs;
use super::context::Context;
use super::error::CliError;
use super::leases::databases_with;
use pgdibs::api::database::{Credentials, Database};
use pgdibs::api::lease::Lease;
use pgdibs::connection_url::{MISLEADING, libpq_variables};
use pgdibs::{Client, segment};
use pgdibs_server::config::ServeFlags;
use pgdibs_server::offline::{SearchRoots, find_client_program};

/// Replaces this process by psql.
///
/// # Errors
/// There is no such database, or no psql.
pub(super) async fn psql(context: &Context, args: PsqlArgs) -> Result<(), CliError> {
    let mut psql = command(context, args).await?;
    let error = psql.exec();
    Err(CliError::failed(format!("cannot run {}: {error}", psql.get_program().display())))
}

/// The command that opens psql on a database.
///
/// # Errors
/// As [`psql`].
pub(super) async fn command(context: &Context, args: PsqlArgs) -> Result<Command, CliError> {
    let flags = args.pg_bin_dir.into_iter().fold(ServeFlags::default(), |flags, path| flags.with("pg_bin_dir", path));
    let config = context.load_for_client(flags)?;
    let program = find_psql(config.pg_bin_dir.as_deref())?;
    let url = credentials(&context.client()?, args.name.as_deref()).await?;
    let variables = libpq_variables(&url)?;
    let mut psql = Command::new(&program);
    for name in MISLEADING {
        psql.env_remove(name);
    }
    psql.args(args.arguments).envs(variables);
    Ok(psql)
}

/// The URL of a lease or a database.
async fn credentials(client: &Client, name: Option<&str>) -> Result<String, CliError> {
    if let Some(id) = name.filter(|name| uuid::Uuid::try_parse(name).is_ok()) {
        let lease: Lease = client.get(&format!("/v1/leases/{}", segment(id)?)).await?.json()?;
        return match lease.url() {
            Some(url) => Ok(url.to_owned()),
            None => {
                Err(CliError::failed(format!("the lease {id} has ended")).hint("`pgdibs status` shows the live leases"))
            }
        };
    }
    let all = databases_with(client, name.unwrap_or_default()).await?;
    let database = choose(&all.databases, name)?;
    let path = format!("/v1/databases/{}/credentials", segment(&database)?);
    let found: Credentials = client.call(Method::POST, &path, Some(&json!({})), Duration::ZERO).await?.json()?;
    Ok(found.url)
}

/// The name of the database that `name` or its suffix denotes; without a name, of the only leased one.
fn choose(all: &[Database], name: Option<&str>) -> Result<String, CliError> {
    let open: Vec<&Database> =
        all.iter().filter(|database| matches!(database.state.as_str(), "leased" | "kept")).collect();
    let names = |some: &[&Database]| some.iter().map(|one| one.database.as_str()).collect::<Vec<_>>().join(", ");
    let matching: Vec<&Database> = match name {
        None => open.iter().copied().filter(|database| database.state.as_str() == "leased").collect(),
        Some(name) => {
            let exact: Vec<&Database> = open.iter().copied().filter(|database| database.database == name).collect();
            let suffix = format!("_{name}");
            let by_suffix = open.iter().copied().filter(|database| database.database.ends_with(&suffix));
            if exact.is_empty() { by_suffix.collect() } else { exact }
        }
    };
    let state_of = |name: &str| all.iter().find(|one| one.database == name).map(|one| one.state.as_str());
    match (matching.as_slice(), name) {
        ([one], _) => Ok(one.database.clone()),
        ([], None) => Err(CliError::failed("no database is leased").hint("`pgdibs lease POOL` leases one")),
        ([], Some(name)) => {
            let message = match state_of(name) {
                Some(state) => format!("`{name}` is {state}; only leased and kept databases can be opened"),
                None => format!("no leased or kept database has the name `{name}`"),
            };
            let hint = match open.is_empty() {
                true => "no database is leased or kept; `pgdibs lease POOL` leases one".to_owned(),
                false => format!("leased and kept databases: {}", names(&open)),
            };
            Err(CliError::failed(message).hint(hint))
        }
        (several, None) => {
            Err(CliError::usage("several databases are leased").hint(format!("name one of {}", names(several))))
        }
        (several, Some(name)) => {
            Err(CliError::usage(format!("`{name}` is ambiguous: {}", names(several))).hint("give the full name"))
        }
    }
}

/// The configured directory must have psql; without one, PATH comes first: it has the psql that the user runs otherwise.
fn find_psql(configured: Option<&Path>) -> Result<PathBuf, CliError> {
    let Some(directory) = configured else {
        let roots = SearchRoots::of_this_system();
        return find_client_program("psql", roots.path_dirs(), &roots).ok_or_else(|| {
            CliError::failed("psql is not on this machine").hint(
                "install it (Debian: apt-get install postgresql-client; macOS: brew install libpq), or name its directory in PGDIBS_PG_BIN_DIR",
            )
        });
    };
    let program = directory.join("psql");
    match program.is_file() {
        true => Ok(program),
        false => Err(CliError::configuration(format!("there is no psql in {}", directory.display()))
            .hint("correct --pg-bin-dir or PGDIBS_PG_BIN_DIR, or leave it out")),
    }
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

    fn error_of(result: Result<String, CliError>) -> String {
        match result.unwrap_err() {
            CliError::Failure { message, hint, .. } => format!("{message} | {}", hint.unwrap_or_default()),
            other => other.to_string(),
        }
    }

    #[test]
    fn choose_takes_name_suffix_or_only_leased_database() {
        let all = databases(&[("a_test_gw0", "leased"), ("a_test_gw1", "ready"), ("a_test_kept_7", "kept")]);
        assert_eq!(choose(&all, None).unwrap(), "a_test_gw0");
        assert_eq!(choose(&all, Some("gw0")).unwrap(), "a_test_gw0");
        assert_eq!(choose(&all, Some("a_test_kept_7")).unwrap(), "a_test_kept_7");
        assert_eq!(choose(&all, Some("kept_7")).unwrap(), "a_test_kept_7");
        assert_eq!(
            error_of(choose(&all, Some("a_test_gw1"))),
            "`a_test_gw1` is ready; only leased and kept databases can be opened | leased and kept databases: a_test_gw0, a_test_kept_7"
        );
    }

    #[test]
    fn choose_lists_candidates_of_ambiguous_name() {
        let all = databases(&[("a_gw0", "leased"), ("b_gw0", "leased")]);
        assert_eq!(error_of(choose(&all, Some("gw0"))), "`gw0` is ambiguous: a_gw0, b_gw0 | give the full name");
        assert_eq!(error_of(choose(&all, None)), "several databases are leased | name one of a_gw0, b_gw0");
        assert_eq!(choose(&databases(&[("gw0", "leased"), ("a_gw0", "leased")]), Some("gw0")).unwrap(), "gw0");
        assert!(error_of(choose(&[], None)).starts_with("no database is leased"));
    }
}
