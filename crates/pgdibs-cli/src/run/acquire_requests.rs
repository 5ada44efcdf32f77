//! What `pgdibs run` asks the daemon for: the pool, and the leases in it.

use crate::answer::Answer as _;
use std::time::Duration;

use pgdibs::Method;
use serde_json::{Map, Value, json};

use crate::args::RunArgs;
use crate::command::shown;
use crate::error::CliError;
use crate::leases::{default_holder, put};
use crate::progress::Progress;
use pgdibs::Client;
use pgdibs::api::lease::{Lease, Leases};
use pgdibs::api::pool::Pools;

/// The pool that was named, or the only one there is.
///
/// # Errors
/// When there is none or several, or the daemon cannot be asked.
pub(super) async fn choose_pool(
    client: &Client,
    named: Option<&str>,
    wait: Duration,
    progress: &Progress,
) -> Result<String, CliError> {
    if let Some(pool) = named {
        return Ok(pool.to_owned());
    }
    let answer =
        client.call_waiting(Method::GET, "/v1/pools", |_| None, wait, |refused| progress.refused(refused)).await?;
    let mut pools = answer.read::<Pools>()?.pools;
    match pools.len() {
        0 => Err(CliError::failed("the daemon has no pool yet").hint(
            "describe one in pgdibs.toml, or make one: `pgdibs pool set myapp_test`, then `pgdibs template build myapp_test --inputs ... -- COMMAND`",
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
/// When they did not come, or came otherwise than asked for.
pub(super) async fn acquire(
    client: &Client,
    args: &RunArgs,
    run: &str,
    pool: &str,
    wait: Duration,
    progress: &Progress,
) -> Result<Vec<Lease>, CliError> {
    let (path, body) = acquire_requests(args, run, pool);
    let with_wait = |left: f64| {
        let mut body = body.clone();
        body.insert("wait_seconds".to_owned(), json!(left));
        Some(Value::Object(body))
    };
    let answer = client.call_waiting(Method::POST, path, with_wait, wait, |refused| progress.refused(refused)).await?;
    let leases = match path {
        "/v1/leases" => vec![answer.read::<Lease>()?],
        _ => answer.read::<Leases>()?.leases,
    };
    if let Some(workers) = args.workers {
        check_workers(&leases, workers)?;
    } else if leases.len() != args.alias.len().max(1) {
        return Err(CliError::failed(format!(
            "the daemon granted {} leases of {}",
            leases.len(),
            args.alias.len().max(1)
        )));
    }
    Ok(leases)
}

fn acquire_requests(args: &RunArgs, run: &str, pool: &str) -> (&'static str, Map<String, Value>) {
    let holder = args.holder.clone().unwrap_or_else(|| default_holder(&shown(&args.command)));
    let acquire_request = |worker: Option<String>, alias: Option<&String>| {
        let mut acquire_request = Map::new();
        acquire_request.insert("pool".to_owned(), json!(pool));
        acquire_request.insert("run".to_owned(), json!(run));
        acquire_request.insert("holder".to_owned(), json!(holder));
        put(&mut acquire_request, "fingerprint", args.fingerprint.as_ref());
        put(&mut acquire_request, "worker", worker);
        put(&mut acquire_request, "alias", alias);
        put(&mut acquire_request, "via", args.via.as_ref().filter(|via| !via.is_empty()));
        put(&mut acquire_request, "ttl_seconds", args.ttl);
        acquire_request
    };
    let mut batch = Map::new();
    if let Some(workers) = args.workers {
        let acquire_requests: Vec<_> =
            (0..workers).map(|number| acquire_request(Some(format!("gw{number}")), None)).collect();
        batch.insert("leases".to_owned(), json!(acquire_requests));
        batch.insert("shared_login".to_owned(), json!(true));
        batch.insert("exact_slot".to_owned(), json!(true));
        return ("/v1/leases/batch", batch);
    }
    if args.alias.len() > 1 {
        let acquire_requests: Vec<_> = args.alias.iter().map(|alias| acquire_request(None, Some(alias))).collect();
        batch.insert("leases".to_owned(), json!(acquire_requests));
        return ("/v1/leases/batch", batch);
    }
    ("/v1/leases", acquire_request(None, args.alias.first()))
}

/// The tool will make the names `_gw0` to `_gwN-1` itself and use one login for all: anything else would send it into databases
/// of others, or into none.
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
                "the daemon may be older than this command: `pgdibs status` shows its version, `pgdibs --version` ours",
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
    fn workers_ask_for_exact_slots_under_one_login() {
        let (path, body) = acquire_requests(&run_args(&["--workers", "2", "--holder", "me", "--ttl", "5"]), "r", "p");
        assert_eq!(path, "/v1/leases/batch");
        let acquire_request =
            |worker| json!({"pool": "p", "run": "r", "holder": "me", "worker": worker, "ttl_seconds": 5});
        let expected = json!({"leases": [acquire_request("gw0"), acquire_request("gw1")], "shared_login": true, "exact_slot": true});
        assert_eq!(Value::Object(body), expected);
    }

    #[test]
    fn one_alias_is_one_lease_and_several_are_a_batch() {
        let (path, body) = acquire_requests(&run_args(&["--alias", "a"]), "r", "p");
        assert_eq!((path, body["alias"].as_str()), ("/v1/leases", Some("a")));
        let (path, body) = acquire_requests(&run_args(&["--alias", "a", "--alias", "b"]), "r", "p");
        assert_eq!((path, body["leases"][1]["alias"].as_str()), ("/v1/leases/batch", Some("b")));
        assert_eq!(body.get("exact_slot"), None);
    }

    #[test]
    fn a_grant_for_workers_is_believed_only_when_it_is_exact() {
        assert!(check_workers(&[lease(0, "u"), lease(1, "u")], 2).is_ok());
        assert!(check_workers(&[lease(0, "u"), lease(2, "u")], 2).is_err());
        assert!(check_workers(&[lease(0, "u"), lease(1, "v")], 2).is_err());
        assert!(check_workers(&[lease(0, "u")], 2).is_err());
        let nameless = Lease { access: None, ..lease(0, "u") };
        assert!(check_workers(&[nameless], 1).is_err());
    }
}
