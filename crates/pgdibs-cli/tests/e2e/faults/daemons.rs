//! Several daemons on one server, pools with similar names, and the leadership lock in another database.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use pgdibs_testing::end_to_end::callers::Load;
use pgdibs_testing::end_to_end::{Api, Cluster, Place, Session, Stage, stage, until};

const FULL_AGAIN: Duration = Duration::from_secs(20);
/// The maximum time from the death of the leader to the first step of the next one.
const TAKES_OVER: Duration = Duration::from_secs(5);

fn reconciles(api: &Api) -> bool {
    api.status()["daemon"]["reconciling"] == json!(true)
}

/// The leader is killed repeatedly; the callers of both daemons are served throughout.
pub(super) fn killed_leader() {
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
                until("the other daemon takes over", || {
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

/// The leader is stopped, so no daemon reconciles. The other daemon still grants ready databases. The leader continues
/// afterwards, and no lease has ended.
pub(super) fn stopped_leader() {
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
        // The duration of the tested sleep.
        std::thread::sleep(Duration::from_secs(4));
        assert!(!reconciles(&there), "the session of the stopped leader still has the lock");
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

/// Pools whose names resemble database names of other pools, each with its own daemon; the drop of one does not affect the others.
pub(super) fn pools_with_similar_names() {
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
    let (dropped, others) = (2, [0, 1, 3, 4, 5]);
    stage.under_load(|| {
        // The first pool is under load while another pool is dropped.
        assert_eq!(second.api.delete(&format!("/v1/pools/{}?force=true", pools[dropped])).status, 204);
        until("the pool is dropped", || {
            let left = on_the_server(&before[dropped]);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        stage.ledger.until_served(30);
    });
    for number in others {
        assert_eq!(on_the_server(&before[number]), before[number], "databases of {}", pools[number]);
        assert_eq!(second.api.delete(&format!("/v1/pools/{}?force=true", pools[number])).status, 204);
    }
    until("they are dropped", || {
        let left = on_the_server(&before.concat());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    second.stop();
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// The leadership lock has no effect in another database. A daemon with the URL of another database uses the same catalog. A foreign
/// session with the lock in the catalog prevents leadership until it releases the lock.
pub(super) fn leadership_lock_in_another_database() {
    const TAKE: &str = "select pg_advisory_lock(x'706764696273'::bit(48)::bigint)";
    let cluster = Cluster::start(&["max_prepared_transactions=10"]);
    let mut elsewhere = cluster.superuser("postgres");
    elsewhere.run(TAKE);
    let place = Place::on(&cluster.url());
    let (stage, daemon) = Stage::with(cluster, place, &[], "");
    elsewhere.run("create database app_of_another");
    let other = Place::on(&stage.cluster.superuser_url("app_of_another"));
    let second = other.daemon(&[]);
    assert!(reconciles(&stage.api) && !reconciles(&second.api), "the server has one leader");
    stage.under_load(|| stage.ledger.until_served(20));
    second.stop();

    let mut stranger = stage.catalog();
    stranger.run("set application_name = 'a stranger'");
    daemon.kill();
    stranger.run(TAKE);
    let daemon = stage.start(&[]);
    let acquire_request = json!({"pool": stage.pool, "fingerprint": "first", "wait_seconds": 0});
    let granted = until("ready databases are granted", || match stage.api.post("/v1/leases", &acquire_request) {
        answer if answer.status == 201 => Ok(answer.body),
        answer => Err(answer.body.to_string()),
    });
    assert!(!reconciles(&stage.api));
    stage.api.release(&granted);
    drop(stranger);
    until("a daemon becomes the leader again", || if reconciles(&stage.api) { Ok(()) } else { Err(String::new()) });
    stage.under_load(|| {});
    elsewhere.run("drop database app_of_another");
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}
