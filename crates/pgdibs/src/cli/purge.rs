//! `pgdibs purge`: everything of ours off a server, listed first, then asked.

use std::io::{self, BufRead, IsTerminal, Write};

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::args::PurgeArgs;
use super::context::Context;
use super::error::CliError;
use super::progress::Progress;
use super::seams;
use crate::config::ServeFlags;

/// Takes everything of ours off a server.
///
/// # Errors
/// When a daemon serves it, the user does not agree, or the server refuses.
pub(super) async fn purge(context: &Context, args: PurgeArgs) -> Result<(), CliError> {
    let flags = ServeFlags { server_url: args.server_url.clone(), ..ServeFlags::default() };
    let config = context.load_for_client(flags)?;
    let url = match &config.server_url {
        Some(url) if !args.embedded => url.clone(),
        _ => SecretString::from(seams::embedded_url(&config).await?),
    };
    let daemons = seams::daemons_on(url.expose_secret()).await?;
    if !daemons.is_empty() && !args.force {
        return Err(CliError::failed(format!("a daemon serves this server ({})", daemons.join(", ")))
            .hint("stop it first, or it makes everything anew; --force purges all the same"));
    }
    let found = seams::inventory(url.expose_secret()).await?;
    if found.is_empty() {
        context.output.result(&json!({"purged": []}), String::new)?;
        context.output.say("there is nothing of ours on this server");
        return Ok(());
    }
    if !args.yes {
        agree(&found)?;
    }
    let progress = Progress::start("purging");
    seams::purge(url.expose_secret()).await?;
    drop(progress);
    context.output.result(&json!({"purged": found}), || found.join("\n"))?;
    context.output.say(&format!("purged {} things", found.len()));
    Ok(())
}

/// Shows what would go and asks. On standard error: the result may go elsewhere.
fn agree(found: &[String]) -> Result<(), CliError> {
    let mut stderr = io::stderr().lock();
    let list = found.iter().map(|line| format!("  {line}\n")).collect::<String>();
    let asked = write!(stderr, "This would go:\n{list}Type yes to purge: ").and_then(|()| stderr.flush());
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
