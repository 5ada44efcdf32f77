//! `pgdibs lease`, `renew`, `reset`, `keep` and `release`.

use std::time::{Duration, Instant};

use pgdibs::Method;
use serde_json::{Value, json};

use super::args::{IdArgs, KeepArgs, LeaseArgs, ReleaseArgs, RenewArgs, ResetArgs};
use super::context::Context;
use super::error::CliError;
use super::fingerprint::resolve;
use super::inherited::{EXPORTED, Inherited};
use super::progress::Progress;
use pgdibs::api::database::{DatabaseState, Databases};
use pgdibs::api::lease::{Kept, Lease, LeaseState, Leases};
use pgdibs::connection_url::{MISLEADING, libpq_variables};
use pgdibs::{Client, segment};

/// Acquires a lease.
///
/// # Errors
/// The daemon refuses, or no database was free in time.
pub(super) async fn lease(context: &Context, args: LeaseArgs) -> Result<(), CliError> {
    let client = context.client()?;
    let fingerprint = match &args.fingerprint {
        Some(written) => Some(resolve(&client, &args.pool, written).await?),
        None => None,
    };
    let request = without_nulls(json!({
        "pool": args.pool,
        "holder": args.holder.unwrap_or_else(|| default_holder("pgdibs lease")),
        "fingerprint": fingerprint,
        "worker": args.worker,
        "run": args.run,
        "alias": args.alias,
        "via": args.via.filter(|via| !via.is_empty()),
        "ttl_seconds": args.ttl,
    }));
    let progress = Progress::start(format!("waiting for a database of pool {}", args.pool));
    let wait = Duration::from_secs_f64(args.wait);
    let answer = progress.call(&client, Method::POST, "/v1/leases", Some(&request), wait).await?;
    drop(progress);
    let lease: Lease = answer.json()?;
    let url = lease.url().unwrap_or_default().to_owned();
    let text = if args.export { exports(&lease.id, &url, &Inherited::of_this_process())? } else { format!("{url}\n") };
    let written = context.output.result(&answer.value()?, || text);
    if written.is_err() {
        // The caller did not get the lease's URL, so the lease is released.
        client.call(Method::DELETE, &format!("/v1/leases/{}", segment(&lease.id)?), None, Duration::ZERO).await?;
    } else if !args.export {
        let template = super::table::shortened(&lease.fingerprint, 40);
        context.output.info(&format!(
            "leased {} as {}, a clone of template {template}; {}",
            lease.database,
            lease.id,
            expiry(&lease)
        ));
    }
    written
}

/// The lines of `--export`, for a shell to evaluate.
fn exports(id: &str, url: &str, inherited: &Inherited) -> Result<String, CliError> {
    let quoted = |value: &str| format!("'{}'", value.replace('\'', "'\\''"));
    let mut lines = format!("export DATABASE_URL={}\n", quoted(url));
    let mut names = vec!["DATABASE_URL"];
    for (name, value) in libpq_variables(url)? {
        names.push(name);
        lines.push_str(&format!("export {name}={}\n", quoted(&value)));
    }
    lines.push_str(&format!("export {EXPORTED}={}\n", quoted(&inherited.exported(names.into_iter()))));
    // With these, libpq would ignore the variables above.
    lines.push_str(&format!("unset {}\n", MISLEADING.join(" ")));
    lines.push_str(&format!("export PGDIBS_LEASE={}\n", quoted(id)));
    Ok(lines)
}

fn expiry(lease: &Lease) -> String {
    format!("it expires in {} s unless it is renewed or in use", lease.ttl_seconds)
}

/// Removes the members of an object that are null.
pub(super) fn without_nulls(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    object
}

/// Calls `POST /v1/leases/{id}/{verb}`.
async fn post_to_lease(client: &Client, id: &IdArgs, verb: &str, body: Value) -> Result<pgdibs::Response, CliError> {
    let id = find(client, &id.lease).await?;
    let path = format!("/v1/leases/{}/{verb}", segment(&id)?);
    Ok(client.call(Method::POST, &path, Some(&without_nulls(body)), Duration::ZERO).await?)
}

/// Renews a lease.
///
/// # Errors
/// The lease has ended.
pub(super) async fn renew(context: &Context, args: &RenewArgs) -> Result<(), CliError> {
    let answer = post_to_lease(&context.client()?, &args.id, "renew", json!({"ttl_seconds": args.ttl})).await?;
    let lease: Lease = answer.json()?;
    context.output.result(&answer.value()?, || format!("renewed {}; {}", lease.database, expiry(&lease)))
}

/// Replaces the database of a lease by a new clone.
///
/// # Errors
/// The lease has ended, or no clone was ready in time.
pub(super) async fn reset(context: &Context, args: &ResetArgs) -> Result<(), CliError> {
    let client = context.client()?;
    let id = find(&client, &args.id.lease).await?;
    let path = format!("/v1/leases/{}", segment(&id)?);
    // With the present generation in the request, a repeated call has no effect.
    let generation = client.get(&path).await?.json::<Lease>()?.generation;
    let progress = Progress::start("waiting for a new clone");
    let body = json!({"generation": generation});
    let wait = Duration::from_secs_f64(args.wait);
    let answer = progress.call(&client, Method::POST, &format!("{path}/reset"), Some(&body), wait).await?;
    drop(progress);
    let lease: Lease = answer.json()?;
    let generation = lease.generation;
    context.output.result(&answer.value()?, || format!("reset {} (generation {generation})", lease.database))
}

/// Keeps the database of a lease.
///
/// # Errors
/// The lease has ended.
pub(super) async fn keep(context: &Context, args: &KeepArgs) -> Result<(), CliError> {
    let body = json!({"seconds": args.seconds, "reason": args.reason});
    let answer = post_to_lease(&context.client()?, &args.id, "keep", body).await?;
    let kept: Kept = answer.json()?;
    context.output.result(&answer.value()?, || kept.kept_url.clone())?;
    let until = kept.kept_until;
    context.output.info(&format!(
        "the lease's next reset or end keeps its database as {} until {until}; `pgdibs psql {}` opens it then",
        kept.kept_database, kept.kept_database
    ));
    Ok(())
}

/// Releases a lease or all leases of a run, or drops a kept database.
///
/// # Errors
/// There is no such lease or database.
pub(super) async fn release(context: &Context, args: &ReleaseArgs) -> Result<(), CliError> {
    let client = context.client()?;
    if let Some(run) = &args.run {
        let answer = client.call(Method::DELETE, &format!("/v1/runs/{}", segment(run)?), None, Duration::ZERO).await?;
        let released = answer.value()?.get("released").and_then(Value::as_u64).unwrap_or_default();
        return context.output.result(&answer.value()?, || format!("released {released}"));
    }
    let name = args.lease.as_deref().unwrap_or_default();
    if let Some(database) = find_kept(&client, name).await? {
        let path = format!("/v1/databases/{}", segment(&database)?);
        client.call(Method::DELETE, &path, None, Duration::ZERO).await?;
        return context.output.done(&format!("released the kept database {database}; the daemon drops it"));
    }
    let id = find(&client, name).await?;
    let path = format!("/v1/leases/{}", segment(&id)?);
    let kept = if id == name { kept_for_ended(&client, &id, &path).await? } else { Vec::new() };
    for database in &kept {
        let path = format!("/v1/databases/{}", segment(database)?);
        client.call(Method::DELETE, &path, None, Duration::ZERO).await?;
    }
    if !kept.is_empty() {
        let kept = kept.join(", ");
        return context
            .output
            .done(&format!("{id} had ended; released what was kept for it, {kept}; the daemon drops it"));
    }
    client.call(Method::DELETE, &path, None, Duration::ZERO).await?;
    context.output.done(&format!("released {id}"))
}

/// The databases that are kept for a lease that has ended; for a live lease none. The API's own release of an ended lease leaves them alone,
/// because clients repeat releases.
async fn kept_for_ended(client: &Client, id: &str, path: &str) -> Result<Vec<String>, CliError> {
    // A lease is remembered for a day, and a database may be kept longer.
    let lease = client.get(path).await.ok().map(|answer| answer.json::<Lease>()).transpose()?;
    if lease.is_some_and(|lease| lease.state == LeaseState::Live) {
        return Ok(Vec::new());
    }
    let all: Databases = client.get("/v1/databases").await?.json()?;
    let kept = all.databases.into_iter().filter(|one| one.state == DatabaseState::Kept);
    Ok(kept.filter(|one| one.lease.as_deref() == Some(id)).map(|one| one.database).collect())
}

/// All databases of the daemon, to look for `name` or a suffix of a name. A database gets its name with `kept` a moment after its lease has
/// ended, when the daemon takes it out of its slot, so such a name is looked for again for some seconds.
pub(super) async fn databases_with(client: &Client, name: &str) -> Result<Databases, CliError> {
    const WITHIN: Duration = Duration::from_secs(3);
    const POLL: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + WITHIN;
    loop {
        let all: Databases = client.get("/v1/databases").await?.json()?;
        let is_there = !name.contains("kept_") || all.databases.iter().any(|one| one.database.ends_with(name));
        if is_there || Instant::now() > deadline {
            return Ok(all);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The kept database with this name or this suffix (`kept_7`).
async fn find_kept(client: &Client, name: &str) -> Result<Option<String>, CliError> {
    if !name.contains("kept") {
        return Ok(None);
    }
    let all = databases_with(client, name).await?;
    let suffix = format!("_{name}");
    let kept = all.databases.iter().filter(|database| database.state == DatabaseState::Kept);
    let found: Vec<&str> = kept
        .filter(|one| one.database == name || one.database.ends_with(&suffix))
        .map(|one| one.database.as_str())
        .collect();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((*one).to_owned())),
        several => {
            match several.contains(&name) {
                true => Ok(Some(name.to_owned())),
                false => Err(CliError::usage(format!("`{name}` is ambiguous: {}", several.join(", ")))
                    .hint("give the full name")),
            }
        }
    }
}

/// The id of a lease, given its id or the name of its database.
async fn find(client: &Client, name: &str) -> Result<String, CliError> {
    if uuid::Uuid::try_parse(name).is_ok() {
        return Ok(name.to_owned());
    }
    let live: Leases = client.get("/v1/leases").await?.json()?;
    let suffix = format!("_{name}");
    let exact = live.leases.iter().filter(|lease| lease.database == name);
    let by_suffix = live.leases.iter().filter(|lease| lease.database.ends_with(&suffix));
    let found: Vec<&Lease> = if exact.clone().count() > 0 { exact.collect() } else { by_suffix.collect() };
    match found.as_slice() {
        [lease] => Ok(lease.id.clone()),
        [] => Err(CliError::failed(format!("no live lease holds `{name}`, and no kept database has that name"))
            .hint("give a lease's id or the name of its database; `pgdibs status` shows leased and kept databases")),
        several => {
            let names: Vec<&str> = several.iter().map(|lease| lease.database.as_str()).collect();
            Err(CliError::failed(format!("`{name}` is ambiguous: {}", names.join(", "))).hint("give the full name"))
        }
    }
}

/// The default holder: user, machine, process and command.
pub(super) fn default_holder(command: &str) -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).ok();
    let machine = machine.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_else(|| "localhost".to_owned());
    let holder = format!("{user}@{machine}/pid {}/{command}", std::process::id());
    super::table::plain(&super::table::shortened(&holder, 120))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_quotes_values_for_shells() {
        let lines = exports("0192", "postgresql://u:p'w@h:1/d", &Inherited::default()).unwrap();
        assert!(lines.starts_with("export DATABASE_URL='postgresql://u:p'\\''w@h:1/d'\n"), "{lines}");
        assert!(lines.contains("export PGPASSWORD='p'\\''w'\n"), "{lines}");
        let exported = "export PGDIBS_EXPORTED='DATABASE_URL,PGHOST,PGPORT,PGUSER,PGPASSWORD,PGDATABASE'\n";
        assert!(lines.contains(&format!("{exported}unset PGSERVICE PGHOSTADDR\n")), "{lines}");
        assert!(lines.ends_with("export PGDIBS_LEASE='0192'\n"), "{lines}");
    }
}
