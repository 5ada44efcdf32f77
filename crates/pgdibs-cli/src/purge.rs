//! `pgdibs purge`: everything of ours off a server, listed first, then asked.

use std::io::{self, BufRead, IsTerminal, Write};

use pgdibs_server::config::{Config, ServeFlags};
use pgdibs_server::offline::{self, ConnectError, EmbeddedError, Inventory, Leave};
use secrecy::SecretString;
use serde_json::json;

use super::args::PurgeArgs;
use super::context::Context;
use super::error::CliError;
use super::progress::Progress;

/// Takes everything of ours off a server.
///
/// # Errors
/// When a daemon serves it, the user does not agree, or the server refuses.
pub(super) async fn purge(context: &Context, args: PurgeArgs) -> Result<(), CliError> {
    let flags = ServeFlags::default();
    let flags = args.server_url.iter().fold(flags, |flags, url| flags.with("server_url", url.clone()));
    let config = context.load_for_client(flags)?;
    match &config.server_url {
        Some(url) if !args.embedded => purge_server(context, &args, url).await,
        _ => purge_embedded(context, &args, &config).await,
    }
}

/// Starts or adopts the embedded server, which is nobody's at the moment, and stops it afterwards.
async fn purge_embedded(context: &Context, args: &PurgeArgs, config: &Config) -> Result<(), CliError> {
    let progress = Progress::start("looking for the embedded server");
    let server =
        offline::start_embedded(config, |stage| progress.now(stage.to_string())).await.map_err(about_server)?;
    drop(progress);
    let done = purge_server(context, args, &server.url()).await;
    // Nothing of ours is there any more; without agreement its leases may still live.
    let how = if done.is_ok() { Leave::Stop } else { Leave::Keep };
    server.leave(how).await.map_err(about_server).and(done)
}

fn about_server(error: EmbeddedError) -> CliError {
    let told = CliError::failed(error.to_string());
    match error {
        EmbeddedError::InUse { .. } => told.hint("stop the daemon that serves it first, or it makes everything again"),
        _ => told,
    }
}

async fn purge_server(context: &Context, args: &PurgeArgs, url: &SecretString) -> Result<(), CliError> {
    let found = offline::inventory(url).await.map_err(told)?;
    if found.daemons > 0 && !args.force {
        let (count, serve) = if found.daemons == 1 { ("a", "daemon serves") } else { ("several", "daemons serve") };
        return Err(CliError::failed(format!("{count} {serve} this server"))
            .hint("stop it first, or it makes everything again; --force purges all the same"));
    }
    let list = lines(&found);
    if list.is_empty() {
        context.output.result(&json!({"purged": []}), String::new)?;
        context.output.say("there is nothing of ours on this server");
        return Ok(());
    }
    if !args.yes {
        agree(&list, &found.leases)?;
    }
    let progress = Progress::start("purging");
    let done = offline::purge(url).await.map_err(told)?;
    drop(progress);
    context.output.result(&json!({"purged": done}), || done.join("\n"))
}

/// What would go, a line for each thing.
fn lines(found: &Inventory) -> Vec<String> {
    let databases = found.databases.iter().map(|name| format!("database {name}"));
    let catalog = found.catalog.then(|| "the catalog, database pgdibs".to_owned());
    let roles = found.roles.iter().map(|name| format!("role {name}"));
    databases.chain(catalog).chain(roles).collect()
}

fn told(error: ConnectError) -> CliError {
    match error {
        ConnectError::NotUp(_) => CliError::failed(error.to_string())
            .hint("try again when the server is up; a purge goes on where it stopped"),
        ConnectError::Refused(_) | ConnectError::Unusable(_) => CliError::failed(error.to_string()),
    }
}

/// Shows what would go and asks. On standard error: the result may go elsewhere.
fn agree(found: &[String], leases: &[String]) -> Result<(), CliError> {
    let mut stderr = io::stderr().lock();
    let indented = |some: &[String]| some.iter().map(|line| format!("  {line}\n")).collect::<String>();
    let leased = if leases.is_empty() { String::new() } else { format!("Leased at present:\n{}", indented(leases)) };
    let asked =
        write!(stderr, "This would go:\n{}{leased}Type yes to purge: ", indented(found)).and_then(|()| stderr.flush());
    if asked.is_err() || !io::stdin().is_terminal() {
        let _nobody_to_tell = writeln!(stderr);
        return Err(CliError::usage("nobody is there to agree").hint("pass --yes to purge without being asked"));
    }
    let mut answer = String::new();
    match io::stdin().lock().read_line(&mut answer) {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => Err(CliError::failed("nothing was purged")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_each_thing_and_is_empty_when_there_is_none() {
        assert!(lines(&Inventory::default()).is_empty());
        let found = Inventory {
            databases: vec!["a_gw0".to_owned()],
            roles: vec!["pgdibs_l_1".to_owned(), "pgdibs_owner".to_owned()],
            catalog: true,
            ..Inventory::default()
        };
        let expected = ["database a_gw0", "the catalog, database pgdibs", "role pgdibs_l_1", "role pgdibs_owner"];
        assert_eq!(lines(&found), expected);
    }
}
