//! `pgdibs pool list|set|drop`.

use super::answer::Answer as _;
use std::time::Duration;

use pgdibs::Method;
use serde_json::{Map, Value};

use super::args::{PoolCommand, PoolDropArgs, PoolSetArgs};
use super::context::Context;
use super::error::CliError;
use super::leases::put;
use super::render::pools_table;
use pgdibs::api::pool::{Pool, Pools};
use pgdibs::segment;

/// Does what the subcommand says.
///
/// # Errors
/// When the daemon refuses.
pub(super) async fn pool(context: &Context, command: PoolCommand) -> Result<(), CliError> {
    match command {
        PoolCommand::List => list(context).await,
        PoolCommand::Set(args) => set(context, &args).await,
        PoolCommand::Drop(args) => drop_pool(context, &args).await,
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let answer = context.client()?.get("/v1/pools").await?;
    let pools: Pools = answer.read()?;
    if pools.pools.is_empty() {
        context.output.say("no pools; `pgdibs pool set NAME` makes one");
    }
    context.output.result(&answer.body(), || match pools.pools.is_empty() {
        true => String::new(),
        false => pools_table(&pools.pools, context.output.colour),
    })
}

async fn set(context: &Context, args: &PoolSetArgs) -> Result<(), CliError> {
    let mut body = Map::new();
    put(&mut body, "warm", args.warm);
    put(&mut body, "max", args.max);
    put(&mut body, "spares", args.spares);
    let path = format!("/v1/pools/{}", segment(&args.pool)?);
    let answer = context.client()?.call(Method::PUT, &path, Some(&Value::Object(body)), Duration::ZERO).await?;
    let pool: Pool = answer.read()?;
    let done = if answer.status == 201 { "made" } else { "set" };
    context.output.result(&answer.body(), || {
        format!("{done} {}: warm {}, max {}, spares {}", pool.pool, pool.warm, pool.max, pool.spares)
    })
}

async fn drop_pool(context: &Context, args: &PoolDropArgs) -> Result<(), CliError> {
    let force = if args.force { "?force=true" } else { "" };
    let path = format!("/v1/pools/{}{force}", segment(&args.pool)?);
    context.client()?.call(Method::DELETE, &path, None, Duration::ZERO).await?;
    context.output.say(&format!("dropped {}", args.pool));
    Ok(())
}
