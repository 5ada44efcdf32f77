//! `pgdibs lease`, `renew`, `reset`, `keep` and `release`.

use super::answer::Answer as _;
use std::time::Duration;

use pgdibs::Method;
use serde_json::{Map, Value, json};

use super::args::{IdArgs, KeepArgs, LeaseArgs, ReleaseArgs, RenewArgs, ResetArgs};
use super::context::Context;
use super::error::CliError;
use super::inherited::{EXPORTED, Inherited};
use super::progress::Progress;
use pgdibs::api::lease::{Kept, Lease, Leases};
use pgdibs::connection_url::{MISLEADING, libpq_variables};
use pgdibs::{Client, segment};

/// Takes a database.
///
/// # Errors
/// When none came.
pub(super) async fn lease(context: &Context, args: LeaseArgs) -> Result<(), CliError> {
    let client = context.client()?;
    let mut acquire_request = Map::new();
    acquire_request.insert("pool".to_owned(), json!(args.pool));
    acquire_request.insert("holder".to_owned(), json!(args.holder.unwrap_or_else(|| default_holder("pgdibs lease"))));
    put(&mut acquire_request, "fingerprint", args.fingerprint);
    put(&mut acquire_request, "worker", args.worker);
    put(&mut acquire_request, "run", args.run);
    put(&mut acquire_request, "alias", args.alias);
    put(&mut acquire_request, "via", args.via.filter(|via| !via.is_empty()));
    put(&mut acquire_request, "ttl_seconds", args.ttl);
    let body = |left: f64| {
        let mut body = acquire_request.clone();
        body.insert("wait_seconds".to_owned(), json!(left));
        Some(Value::Object(body))
    };
    let progress = Progress::start(format!("waiting for a database of pool {}", args.pool));
    let wait = Duration::from_secs_f64(args.wait);
    let answer =
        client.call_waiting(Method::POST, "/v1/leases", body, wait, |refused| progress.refused(refused)).await?;
    drop(progress);
    let lease: Lease = answer.read()?;
    let url = lease.url().unwrap_or_default().to_owned();
    let text = if args.export { exports(&lease.id, &url, &Inherited::of_this_process())? } else { format!("{url}\n") };
    let written = context.output.result(&answer.body(), || text);
    if written.is_err() {
        // Nobody has heard of this lease.
        client.call(Method::DELETE, &format!("/v1/leases/{}", segment(&lease.id)?), None, Duration::ZERO).await?;
    } else if !args.export {
        context.output.say(&format!("leased {} as {}; {}", lease.database, lease.id, ending(&lease)));
    }
    written
}

/// Lines for a shell to evaluate.
fn exports(id: &str, url: &str, inherited: &Inherited) -> Result<String, CliError> {
    let quoted = |value: &str| format!("'{}'", value.replace('\'', "'\\''"));
    let mut lines = format!("export DATABASE_URL={}\n", quoted(url));
    let mut names = vec!["DATABASE_URL"];
    for (name, value) in libpq_variables(url)? {
        names.push(name);
        lines.push_str(&format!("export {name}={}\n", quoted(&value)));
    }
    lines.push_str(&format!("export {EXPORTED}={}\n", quoted(&inherited.exported(names.into_iter()))));
    // They would lead libpq past the variables above.
    lines.push_str(&format!("unset {}\n", MISLEADING.join(" ")));
    lines.push_str(&format!("export PGDIBS_LEASE={}\n", quoted(id)));
    Ok(lines)
}

fn ending(lease: &Lease) -> String {
    format!("it ends in {} s unless it is renewed or in use", lease.ttl_seconds)
}

/// Adds a field that was given.
pub(super) fn put<T: serde::Serialize>(body: &mut Map<String, Value>, name: &str, value: Option<T>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), json!(value));
    }
}

/// `POST /v1/leases/{id}/{verb}`.
async fn on_lease(
    client: &Client,
    id: &IdArgs,
    verb: &str,
    body: Map<String, Value>,
) -> Result<pgdibs::Response, CliError> {
    let id = find(client, &id.lease).await?;
    let path = format!("/v1/leases/{}/{verb}", segment(&id)?);
    Ok(client.call(Method::POST, &path, Some(&Value::Object(body)), Duration::ZERO).await?)
}

/// Renews a lease.
///
/// # Errors
/// When it is over.
pub(super) async fn renew(context: &Context, args: &RenewArgs) -> Result<(), CliError> {
    let mut body = Map::new();
    put(&mut body, "ttl_seconds", args.ttl);
    let answer = on_lease(&context.client()?, &args.id, "renew", body).await?;
    let lease: Lease = answer.read()?;
    context.output.result(&answer.body(), || format!("{} is renewed; {}", lease.database, ending(&lease)))
}

/// Puts a fresh clone behind a lease.
///
/// # Errors
/// When it is over, or no clone came in time.
pub(super) async fn reset(context: &Context, args: &ResetArgs) -> Result<(), CliError> {
    let client = context.client()?;
    let id = find(&client, &args.id.lease).await?;
    let path = format!("/v1/leases/{}", segment(&id)?);
    // Naming the generation to leave behind makes a repeated call harmless.
    let generation = client.get(&path).await?.read::<Lease>()?.generation;
    let progress = Progress::start("waiting for a fresh clone");
    let body = |left: f64| {
        let mut body = Map::new();
        body.insert("wait_seconds".to_owned(), json!(left));
        put(&mut body, "generation", Some(generation));
        Some(Value::Object(body))
    };
    let wait = Duration::from_secs_f64(args.wait);
    let answer = client
        .call_waiting(Method::POST, &format!("{path}/reset"), body, wait, |refused| progress.refused(refused))
        .await?;
    drop(progress);
    let lease: Lease = answer.read()?;
    let generation = lease.generation;
    context.output.result(&answer.body(), || format!("{} is fresh (generation {generation})", lease.database))
}

/// Keeps a lease's database.
///
/// # Errors
/// When the lease is over.
pub(super) async fn keep(context: &Context, args: &KeepArgs) -> Result<(), CliError> {
    let mut body = Map::new();
    body.insert("seconds".to_owned(), json!(args.seconds));
    put(&mut body, "reason", args.reason.as_ref());
    let answer = on_lease(&context.client()?, &args.id, "keep", body).await?;
    let kept: Kept = answer.read()?;
    context.output.result(&answer.body(), || kept.kept_url.clone())?;
    let until = kept.kept_until;
    context.output.say(&format!(
        "kept until {until} as {} from the lease's next reset or end on; `pgdibs psql {}` opens it then",
        kept.kept_database, kept.kept_database
    ));
    Ok(())
}

/// Ends a lease or a run.
///
/// # Errors
/// When there is no such lease.
pub(super) async fn release(context: &Context, args: &ReleaseArgs) -> Result<(), CliError> {
    let client = context.client()?;
    if let Some(run) = &args.run {
        let answer = client.call(Method::DELETE, &format!("/v1/runs/{}", segment(run)?), None, Duration::ZERO).await?;
        let released = answer.body().get("released").and_then(Value::as_u64).unwrap_or_default();
        return context.output.result(&answer.body(), || format!("released {released}"));
    }
    let id = find(&client, args.lease.as_deref().unwrap_or_default()).await?;
    client.call(Method::DELETE, &format!("/v1/leases/{}", segment(&id)?), None, Duration::ZERO).await?;
    context.output.say(&format!("released {id}"));
    Ok(())
}

/// The lease's id: what was given is one, or names the database that a live lease holds.
async fn find(client: &Client, what: &str) -> Result<String, CliError> {
    if uuid::Uuid::try_parse(what).is_ok() {
        return Ok(what.to_owned());
    }
    let live: Leases = client.get("/v1/leases").await?.read()?;
    let suffix = format!("_{what}");
    let exact = live.leases.iter().filter(|lease| lease.database == what);
    let ending = live.leases.iter().filter(|lease| lease.database.ends_with(&suffix));
    let found: Vec<&Lease> = if exact.clone().count() > 0 { exact.collect() } else { ending.collect() };
    match found.as_slice() {
        [lease] => Ok(lease.id.clone()),
        [] => Err(CliError::failed(format!("no live lease holds `{what}`"))
            .hint("give a lease's id or the name of its database; `pgdibs status` shows both")),
        several => {
            let names: Vec<&str> = several.iter().map(|lease| lease.database.as_str()).collect();
            Err(CliError::failed(format!("`{what}` may mean {}", names.join(", "))).hint("give the whole name"))
        }
    }
}

/// Who asks, for people: user, machine, process and what it runs.
pub(super) fn default_holder(what: &str) -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).ok();
    let machine = machine.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_else(|| "localhost".to_owned());
    let holder = format!("{user}@{machine}/pid {}/{what}", std::process::id());
    super::table::plain(&super::table::shortened(&holder, 120))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_survive_quotes_in_a_shell() {
        let lines = exports("0192", "postgresql://u:p'w@h:1/d", &Inherited::default()).unwrap();
        assert!(lines.starts_with("export DATABASE_URL='postgresql://u:p'\\''w@h:1/d'\n"), "{lines}");
        assert!(lines.contains("export PGPASSWORD='p'\\''w'\n"), "{lines}");
        let exported = "export PGDIBS_EXPORTED='DATABASE_URL,PGHOST,PGPORT,PGUSER,PGPASSWORD,PGDATABASE'\n";
        assert!(lines.contains(&format!("{exported}unset PGSERVICE PGHOSTADDR\n")), "{lines}");
        assert!(lines.ends_with("export PGDIBS_LEASE='0192'\n"), "{lines}");
    }
}
