//! `pgdibs purge`: removes everything that pgdibs created on a server, after it has listed it and asked.

use std::io::{self, BufRead, IsTerminal, Write};

use pgdibs_server::config::{Config, ServeFlags};
use pgdibs_server::offline::{self, ConnectError, EmbeddedError, Inventory};
use secrecy::SecretString;
use serde_json::json;

use super::args::PurgeArgs;
use super::context::Context;
use super::error::CliError;
use super::progress::Progress;

/// Removes everything that pgdibs created on a server.
///
/// # Errors
/// A daemon serves the server, the user does not confirm, or the server refuses.
pub(super) async fn purge(context: &Context, args: PurgeArgs) -> Result<(), CliError> {
    let flags = ServeFlags::default();
    let flags = args.server_url.iter().fold(flags, |flags, url| flags.with("server_url", url.clone()));
    let config = context.load_for_client(flags)?;
    match &config.server_url {
        Some(url) if !args.embedded => purge_server(context, &args, url).await,
        _ => purge_embedded(context, &args, &config).await,
    }
}

/// Starts or adopts the embedded server, purges it, and stops it.
async fn purge_embedded(context: &Context, args: &PurgeArgs, config: &Config) -> Result<(), CliError> {
    let progress = Progress::start("starting the embedded server");
    let server =
        offline::start_embedded(config, |stage| progress.set(stage.to_string())).await.map_err(embedded_error)?;
    drop(progress);
    let purged = purge_server(context, args, &server.url()).await;
    // Unless it was purged, leases may live on it.
    let released = if purged.is_ok() { server.stop().await } else { server.keep().await };
    released.map_err(embedded_error).and(purged)
}

fn embedded_error(error: EmbeddedError) -> CliError {
    let failure = CliError::failed(error.to_string());
    match error {
        EmbeddedError::InUse { .. } => failure.hint("stop that daemon first, or it creates everything again"),
        _ => failure,
    }
}

async fn purge_server(context: &Context, args: &PurgeArgs, url: &SecretString) -> Result<(), CliError> {
    let found = offline::inventory(url).await.map_err(connect_error)?;
    if found.daemons > 0 && !args.force {
        let serve = if found.daemons == 1 { "daemon serves" } else { "daemons serve" };
        return Err(CliError::failed(format!("{} {serve} this server", found.daemons))
            .hint("stop every daemon first, or it creates everything again; --force purges anyway"));
    }
    let list = entries(&found);
    if list.is_empty() {
        context.output.result(&json!({"purged": []}), String::new)?;
        context.output.info("nothing to purge: pgdibs created nothing on this server");
        return Ok(());
    }
    if found.other_version {
        context.output.info(
            "another version of pgdibs made the catalog: what follows is found by its owner, and roles that only the catalog names may stay",
        );
    }
    if !args.yes {
        confirm(&list, &found.leases)?;
    }
    let progress = Progress::start("purging");
    let purged = offline::purge(url).await.map_err(connect_error)?;
    drop(progress);
    context.output.result(&json!({"purged": purged}), || purged.join("\n"))
}

/// One line for each object that the purge would remove.
fn entries(found: &Inventory) -> Vec<String> {
    let databases = found.databases.iter().map(|name| format!("database {name}"));
    let catalog = found.catalog.then(|| "the catalog, database pgdibs".to_owned());
    let roles = found.roles.iter().map(|name| format!("role {name}"));
    databases.chain(catalog).chain(roles).collect()
}

fn connect_error(error: ConnectError) -> CliError {
    match error {
        ConnectError::NotUp(_) => CliError::failed(error.to_string())
            .hint("try again when the server is up; the purge continues where it stopped"),
        ConnectError::Refused(_) | ConnectError::Unusable(_) => CliError::failed(error.to_string()),
    }
}

/// Lists the objects and asks for confirmation, on standard error because standard output has the result.
fn confirm(found: &[String], leases: &[String]) -> Result<(), CliError> {
    let mut stderr = io::stderr().lock();
    let indented = |some: &[String]| some.iter().map(|line| format!("  {line}\n")).collect::<String>();
    let leased = if leases.is_empty() { String::new() } else { format!("Live leases:\n{}", indented(leases)) };
    let written = write!(stderr, "A purge removes:\n{}{leased}Type yes to purge: ", indented(found));
    if written.and_then(|()| stderr.flush()).is_err() || !io::stdin().is_terminal() {
        let _closed = writeln!(stderr);
        return Err(CliError::usage("cannot ask for confirmation: standard input is not a terminal")
            .hint("pass --yes to purge without confirmation"));
    }
    let mut answer = String::new();
    match io::stdin().lock().read_line(&mut answer) {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => Err(CliError::failed("not confirmed: nothing was purged")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_list_each_object_of_inventory() {
        assert!(entries(&Inventory::default()).is_empty());
        let found = Inventory {
            databases: vec!["a_gw0".to_owned()],
            roles: vec!["pgdibs_l_1".to_owned(), "pgdibs_owner".to_owned()],
            catalog: true,
            ..Inventory::default()
        };
        let expected = ["database a_gw0", "the catalog, database pgdibs", "role pgdibs_l_1", "role pgdibs_owner"];
        assert_eq!(entries(&found), expected);
    }
}
