//! The requests of `pgdibs run`: the pool, and the leases in it.

use std::collections::BTreeSet;
use std::time::Duration;

use pgdibs::Method;
use serde_json::{Value, json};

use crate::args::RunArgs;
use crate::command::display;
use crate::error::CliError;
use crate::fingerprint::resolve;
use crate::leases::{default_holder, without_nulls};
use crate::progress::Progress;
use crate::table::shortened;
use pgdibs::Client;
use pgdibs::api::lease::{Lease, Leases};
use pgdibs::api::pool::Pools;

/// The named pool, or the only one.
///
/// # Errors
/// There is none, or several, or the daemon does not answer.
pub(super) async fn choose_pool(
    client: &Client,
    named: Option<&str>,
    wait: Duration,
    progress: &Progress,
) -> Result<String, CliError> {
    if let Some(pool) = named {
        return Ok(pool.to_owned());
    }
    let mut pools = progress.call(client, Method::GET, "/v1/pools", None, wait).await?.json::<Pools>()?.pools;
    match pools.len() {
        0 => Err(CliError::failed("the daemon has no pool yet").hint(
            "configure one in pgdibs.toml, or create one: `pgdibs pool set myapp_test`, then `pgdibs template build myapp_test --inputs ... -- COMMAND`",
        )),
        1 => Ok(pools.swap_remove(0).pool),
        _ => {
            let names: Vec<&str> = pools.iter().map(|pool| pool.pool.as_str()).collect();
            Err(CliError::usage(format!("there are several pools: {}", names.join(", "))).hint("name one with --pool"))
        }
    }
}

/// Leases one database, one for each alias, or one for each worker under one login.
///
/// # Errors
/// The daemon refuses, or grants other leases than requested.
pub(super) async fn acquire(
    client: &Client,
    args: &RunArgs,
    run: &str,
    pool: &str,
    wait: Duration,
    progress: &Progress,
) -> Result<Vec<Lease>, CliError> {
    let fingerprint = match &args.fingerprint {
        Some(written) => Some(resolve(client, pool, written).await?),
        None => None,
    };
    let (path, body) = acquire_request(args, fingerprint.as_deref(), run, pool);
    let answer = progress.call(client, Method::POST, path, Some(&body), wait).await?;
    let leases = match path {
        "/v1/leases" => vec![answer.json::<Lease>()?],
        _ => answer.json::<Leases>()?.leases,
    };
    if let Some(workers) = args.workers {
        check_workers(&leases, workers)?;
    } else if leases.len() != args.alias.len().max(1) {
        return Err(CliError::failed(format!(
            "the daemon granted {} leases instead of {}",
            leases.len(),
            args.alias.len().max(1)
        )));
    }
    Ok(leases)
}

/// Which databases the command gets, and of which template.
pub(super) fn summary(leases: &[Lease]) -> String {
    let databases: Vec<&str> = leases.iter().map(|lease| lease.database.as_str()).collect();
    let templates: BTreeSet<String> = leases.iter().map(|lease| shortened(&lease.fingerprint, 40)).collect();
    let templates: Vec<String> = templates.into_iter().collect();
    format!("leased {}, cloned from template {}", databases.join(", "), templates.join(", "))
}

fn acquire_request(args: &RunArgs, fingerprint: Option<&str>, run: &str, pool: &str) -> (&'static str, Value) {
    let holder = args.holder.clone().unwrap_or_else(|| default_holder(&display(&args.command)));
    let one = |worker: Option<String>, alias: Option<&String>| {
        without_nulls(json!({
            "pool": pool,
            "run": run,
            "holder": holder,
            "fingerprint": fingerprint,
            "worker": worker,
            "alias": alias,
            "via": args.via.as_ref().filter(|via| !via.is_empty()),
            "ttl_seconds": args.ttl,
        }))
    };
    if let Some(workers) = args.workers {
        let leases: Vec<_> = (0..workers).map(|number| one(Some(format!("gw{number}")), None)).collect();
        return ("/v1/leases/batch", json!({"leases": leases, "shared_login": true, "exact_slot": true}));
    }
    if args.alias.len() > 1 {
        let leases: Vec<_> = args.alias.iter().map(|alias| one(None, Some(alias))).collect();
        return ("/v1/leases/batch", json!({"leases": leases}));
    }
    ("/v1/leases", one(None, args.alias.first()))
}

/// The tool uses the names `_gw0` to `_gwN-1` and one login for all. With other leases it would reach databases of others, or none.
fn check_workers(leases: &[Lease], workers: u32) -> Result<(), CliError> {
    let exact = leases.len() as u64 == u64::from(workers)
        && leases
            .iter()
            .zip(0..)
            .all(|(lease, number)| lease.slot == number && lease.database == format!("{}_gw{number}", lease.pool));
    let login = |lease: &Lease| lease.access.as_ref().map(|access| (access.user.clone(), access.password.clone()));
    let first = leases.first().and_then(login);
    let shared = first.is_some() && leases.iter().all(|lease| login(lease) == first);
    match exact && shared {
        true => Ok(()),
        false => Err(CliError::failed(format!("the daemon did not grant gw0 to gw{} under one login", workers - 1))
            .hint(
                "the daemon may be older than this command: `pgdibs status` shows its version, `pgdibs --version` that of this program",
            )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use pgdibs_testing::examples::Example;

    use crate::args::{Cli, Command};

    fn run_args(words: &[&str]) -> RunArgs {
        match Cli::try_parse_from([&["pgdibs", "run"], words, &["--", "true"]].concat()).unwrap().command {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn lease(slot: u32, user: &str) -> Lease {
        let fields = json!({"pool": "p", "database": format!("p_gw{slot}"), "slot": slot, "user": user});
        serde_json::from_value(Example::Lease.with(&fields)).unwrap()
    }

    #[test]
    fn workers_request_exact_slots_under_one_login() {
        let (path, body) =
            acquire_request(&run_args(&["--workers", "2", "--holder", "me", "--ttl", "5"]), None, "r", "p");
        assert_eq!(path, "/v1/leases/batch");
        let one = |worker| json!({"pool": "p", "run": "r", "holder": "me", "worker": worker, "ttl_seconds": 5});
        let expected = json!({"leases": [one("gw0"), one("gw1")], "shared_login": true, "exact_slot": true});
        assert_eq!(body, expected);
    }

    #[test]
    fn several_aliases_make_batch_and_one_a_single_request() {
        let (path, body) = acquire_request(&run_args(&["--alias", "a"]), None, "r", "p");
        assert_eq!((path, body["alias"].as_str()), ("/v1/leases", Some("a")));
        let (path, body) = acquire_request(&run_args(&["--alias", "a", "--alias", "b"]), None, "r", "p");
        assert_eq!((path, body["leases"][1]["alias"].as_str()), ("/v1/leases/batch", Some("b")));
        assert_eq!(body.get("exact_slot"), None);
    }

    #[test]
    fn summary_names_databases_and_their_template_once() {
        let leases = [lease(0, "u"), lease(1, "u")];
        let expected = format!("leased p_gw0, p_gw1, cloned from template {}", leases[0].fingerprint);
        assert_eq!(summary(&leases), expected);
    }

    #[test]
    fn check_workers_accepts_only_exact_grant() {
        assert!(check_workers(&[lease(0, "u"), lease(1, "u")], 2).is_ok());
        assert!(check_workers(&[lease(0, "u"), lease(2, "u")], 2).is_err());
        assert!(check_workers(&[lease(0, "u"), lease(1, "v")], 2).is_err());
        assert!(check_workers(&[lease(0, "u")], 2).is_err());
        let without_access = Lease { access: None, ..lease(0, "u") };
        assert!(check_workers(&[without_access], 1).is_err());
    }
}
