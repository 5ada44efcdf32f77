//! `pgdibs pool list|set|drop`.

use std::time::Duration;

use pgdibs::Method;
use serde_json::json;

use super::args::{PoolCommand, PoolDropArgs, PoolSetArgs};
use super::context::Context;
use super::error::CliError;
use super::leases::without_nulls;
use super::render::pools_table;
use pgdibs::api::pool::{Pool, Pools};
use pgdibs::segment;

/// Runs a subcommand of `pgdibs pool`.
///
/// # Errors
/// The daemon refuses.
pub(super) async fn pool(context: &Context, command: PoolCommand) -> Result<(), CliError> {
    match command {
        PoolCommand::List => list(context).await,
        PoolCommand::Set(args) => set(context, &args).await,
        PoolCommand::Drop(args) => drop_pool(context, &args).await,
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let answer = context.client()?.get("/v1/pools").await?;
    let pools: Pools = answer.json()?;
    if pools.pools.is_empty() {
        context.output.info("no pools; `pgdibs pool set NAME` creates one");
    }
    context.output.result(&answer.value()?, || match pools.pools.is_empty() {
        true => String::new(),
        false => pools_table(&pools.pools, context.output.colour),
    })
}

async fn set(context: &Context, args: &PoolSetArgs) -> Result<(), CliError> {
    let body = without_nulls(json!({"warm": args.warm, "max": args.max, "spares": args.spares, "login": args.login}));
    let path = format!("/v1/pools/{}", segment(&args.pool)?);
    let answer = context.client()?.call(Method::PUT, &path, Some(&body), Duration::ZERO).await?;
    let pool: Pool = answer.json()?;
    let verb = if answer.status == 201 { "created" } else { "set" };
    context.output.result(&answer.value()?, || {
        let login = answer.value().ok().and_then(|value| value.get("login")?.as_str().map(str::to_owned));
        let login = login.filter(|login| login != "plain").map_or_else(String::new, |login| format!(", login {login}"));
        format!("{verb} {}: warm {}, max {}, spares {}{login}", pool.pool, pool.warm, pool.max, pool.spares)
    })
}

async fn drop_pool(context: &Context, args: &PoolDropArgs) -> Result<(), CliError> {
    let force = if args.force { "?force=true" } else { "" };
    let path = format!("/v1/pools/{}{force}", segment(&args.pool)?);
    context.client()?.call(Method::DELETE, &path, None, Duration::ZERO).await?;
    context.output.done(&format!("dropped {}", args.pool))
}
