//! Several daemons on one server, pools with names like each other's, and a lock in the wrong database.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::callers::Load;
use crate::support::{Api, Cluster, Place, Session, Stage, stage, until};

const FULL_AGAIN: Duration = Duration::from_secs(20);
/// Between the death of the one leading and the next one's first step.
const TAKES_OVER: Duration = Duration::from_secs(5);

fn reconciles(api: &Api) -> bool {
    api.status()["daemon"]["reconciling"] == json!(true)
}

/// The one leading is killed again and again; callers of both are served throughout.
pub(super) fn leader_of_two_is_killed() {
    let (stage, mut first) = Stage::set(&[], &[]);
    let other = Place::on(&stage.cluster.url());
    let mut second = other.daemon(&[]);
    let there = second.api.clone();
    for _ in 0..4 {
        let load = stage.load();
        let beside = Load { api: &there, seed: stage.seed.wrapping_add(500_000), ..stage.load() };
        load.during(stage::CALLERS / 2, || {
            beside.during(stage::CALLERS / 2, || {
                stage.ledger.until_served(stage::CALLERS as usize);
                let (killed, successor) = if reconciles(&stage.api) {
                    first.signal(Signal::SIGKILL);
                    (Instant::now(), &there)
                } else {
                    second.signal(Signal::SIGKILL);
                    (Instant::now(), &stage.api)
                };
                until("the other one takes over", || {
                    if reconciles(successor) { Ok(()) } else { Err("not yet".to_owned()) }
                });
                assert!(killed.elapsed() < TAKES_OVER, "after {:?}", killed.elapsed());
                if first.has_ended().is_some() {
                    first = stage.start(&[]);
                } else {
                    second = other.start(&[]);
                    there.moved_to(&second.api);
                }
                stage.ledger.until_served(stage::CALLERS as usize);
            });
        });
    }
    second.stop();
    stage.audit(&first, FULL_AGAIN);
    first.stop();
}

/// The one leading is stopped, so nobody reconciles and nobody else may. What stands ready is granted all the same; when it wakes,
/// it goes on as if nothing had been, and nothing has ended.
pub(super) fn leader_that_sleeps() {
    let (stage, first) = Stage::set(&[], &[]);
    let other = Place::on(&stage.cluster.url());
    let second = other.daemon(&[]);
    let there = second.api.clone();
    let beside = Load { api: &there, ..stage.load() };
    beside.during(stage::CALLERS, || {
        stage.ledger.until_served(stage::CALLERS as usize);
        let lease =
            there.lease(&json!({"pool": stage.pool, "fingerprint": "first", "ttl_seconds": 1, "wait_seconds": 30}));
        let mut session = Session::of(&lease);
        first.signal(Signal::SIGSTOP);
        assert!(!reconciles(&there));
        // The sleep is what is tested.
        std::thread::sleep(Duration::from_secs(4));
        assert!(!reconciles(&there), "leadership is a session's, and that one lives");
        first.signal(Signal::SIGCONT);
        session.run("insert into witness (note) values ('mine')");
        there.post(&format!("/v1/leases/{}/renew", lease["id"].as_str().unwrap()), &json!({})).expect(200);
        stage.ledger.until_served(stage::CALLERS as usize);
        drop(session);
        there.release(&lease);
    });
    second.stop();
    stage.audit(&first, FULL_AGAIN);
    first.stop();
}

/// Pools whose names look like names in each other's pools, each with its own daemon; the one pool goes, the others do not notice.
pub(super) fn pools_with_names_like_each_others() {
    let (stage, daemon) = Stage::set(&[], &[]);
    let other = Place::on(&stage.cluster.url());
    let second = other.daemon(&[]);
    let pools =
        ["gw1", "spare", "spare_1", "template", "old_1", "gw0_gw0"].map(|suffix| format!("{}_{suffix}", stage.pool));
    for pool in &pools {
        second.api.make_pool(pool, &json!({"warm": 1, "max": 2, "spares": 1}), "create table witness (note text)");
        second.api.until_counts(pool, &json!({"ready": 1, "spare": 1}));
    }
    let of = |pool: &str| {
        stage.catalog().list(&format!(
            "select name || ' ' || oid from databases where pool = '{pool}' union all select name || ' ' || oid from templates where pool = '{pool}'"
        ))
    };
    let on_the_server = |listed: &[String]| -> Vec<String> {
        let oids: Vec<&str> = listed.iter().filter_map(|line| line.split_once(' ').map(|(_, oid)| oid)).collect();
        let sql = format!("select datname || ' ' || oid from pg_database where oid in ({})", oids.join(", "));
        stage.cluster.superuser("postgres").list(&sql)
    };
    let before: Vec<Vec<String>> = pools.iter().map(|pool| of(pool)).collect();
    let (gone, staying) = (2, [0, 1, 3, 4, 5]);
    stage.under_load(|| {
        // Of the first pool everything is handed out and taken back; another goes altogether.
        assert_eq!(second.api.delete(&format!("/v1/pools/{}?force=true", pools[gone])).status, 204);
        until("the pool is gone", || {
            let left = on_the_server(&before[gone]);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        stage.ledger.until_served(30);
    });
    for number in staying {
        assert_eq!(on_the_server(&before[number]), before[number], "databases of {}", pools[number]);
        assert_eq!(second.api.delete(&format!("/v1/pools/{}?force=true", pools[number])).status, 204);
    }
    until("they are gone", || {
        let left = on_the_server(&before.concat());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    second.stop();
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// leadership's key, held in another database, means nothing; a daemon that was given another database's URL meets the others all the
/// same; the key held in the catalog by a stranger keeps everybody out of leadership until it is let go.
pub(super) fn a_lock_in_the_wrong_database() {
    const TAKE: &str = "select pg_advisory_lock(x'706764696273'::bit(48)::bigint)";
    let cluster = Cluster::start(&["max_prepared_transactions=10"]);
    let mut elsewhere = cluster.superuser("postgres");
    elsewhere.run(TAKE);
    let place = Place::on(&cluster.url());
    let (stage, daemon) = Stage::with(cluster, place, &[], "");
    elsewhere.run("create database app_of_somebody");
    let other = Place::on(&stage.cluster.superuser_url("app_of_somebody"));
    let second = other.daemon(&[]);
    assert!(reconciles(&stage.api) && !reconciles(&second.api), "one leader for the whole server");
    stage.under_load(|| stage.ledger.until_served(20));
    second.stop();

    let mut stranger = stage.catalog();
    stranger.run("set application_name = 'a stranger'");
    daemon.kill();
    stranger.run(TAKE);
    let daemon = stage.start(&[]);
    let acquire_request = json!({"pool": stage.pool, "fingerprint": "first", "wait_seconds": 0});
    let granted = until("what stands ready is granted", || match stage.api.post("/v1/leases", &acquire_request) {
        answer if answer.status == 201 => Ok(answer.body),
        answer => Err(answer.body.to_string()),
    });
    assert!(!reconciles(&stage.api));
    stage.api.release(&granted);
    drop(stranger);
    until("leadership is free again", || if reconciles(&stage.api) { Ok(()) } else { Err(String::new()) });
    stage.under_load(|| {});
    elsewhere.run("drop database app_of_somebody");
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}
