//! Databases that do not let themselves be renamed or dropped: what tenants and others leave in them, and the cures.

use std::time::{Duration, Instant};

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{Cluster, Daemon, Place, Session, Stage, StopOnDrop, stage, until};

/// An obstacle and its cure are seen to within this time, with eight callers beside it.
const CLEANED_UP: Duration = Duration::from_secs(15);

/// A lease beside those of the callers.
fn lease(stage: &Stage) -> Value {
    stage.api.lease(&json!({"pool": stage.pool, "holder": "somebody untidy", "wait_seconds": 30}))
}

/// Gives a lease back and waits until its database is gone from the server.
#[track_caller]
fn until_dropped(stage: &Stage, daemon: &Daemon, oid: &str, lease: &Value) {
    stage.api.release(lease);
    until_gone(stage, daemon, oid);
}

#[track_caller]
fn until_gone(stage: &Stage, daemon: &Daemon, oid: &str) {
    let mut boss = stage.cluster.superuser("postgres");
    let began = Instant::now();
    until("the database is dropped", || {
        let left = boss.text(&format!("select datname from pg_database where oid = {oid}"));
        assert!(began.elapsed() < CLEANED_UP, "{left} is still there after {CLEANED_UP:?}: {}", daemon.log());
        if left == "-" { Ok(()) } else { Err(left) }
    });
}

fn oid_of(stage: &Stage, lease: &Value) -> String {
    let name = lease["database"].as_str().unwrap();
    stage.cluster.superuser("postgres").text(&format!("select oid from pg_database where datname = '{name}'"))
}

/// Somebody leaves something in a leased database that keeps it from being dropped; with which session, and what the log says.
fn obstacle(settings: &[&str], said: Option<&str>, leave: impl Fn(&Stage, &Value) -> Option<Session>) {
    let (stage, daemon) = Stage::set(settings, &[]);
    stage.under_load(|| {
        let lease = lease(&stage);
        let oid = oid_of(&stage, &lease);
        let session = leave(&stage, &lease);
        until_dropped(&stage, &daemon, &oid, &lease);
        drop(session);
    });
    if let Some(said) = said {
        assert_eq!(daemon.log().matches(said).count(), 1, "`{said}`: {}", daemon.log());
    }
    stage.audit(&daemon, CLEANED_UP);
    daemon.stop();
}

/// Regression: a prepared transaction or a subscription of a tenant blocked its database for ever (found by tenants'
/// leftovers).
pub(super) fn a_prepared_transaction() {
    obstacle(&[], Some("rolled back the prepared transaction"), |_, lease| {
        let mut tenant = Session::of(lease);
        tenant.run("begin; insert into witness (note) values ('prepared'); prepare transaction 'left it''s behind'");
        None
    });
}

/// Regression: a prepared transaction or a subscription of a tenant blocked its database for ever (found by tenants'
/// leftovers).
pub(super) fn a_prepared_transaction_at_a_reset() {
    let (stage, daemon) = Stage::set(&[], &[]);
    stage.under_load(|| {
        let lease = lease(&stage);
        let mut tenant = Session::of(&lease);
        tenant.run("begin; insert into witness (note) values ('prepared'); prepare transaction 'left'");
        let path = format!("/v1/leases/{}/reset", lease["id"].as_str().unwrap());
        stage.api.post(&path, &json!({"generation": 1})).expect(200);
        assert_eq!(Session::of(&lease).text("select count(*) from witness"), "0");
        stage.api.release(&lease);
    });
    stage.audit(&daemon, CLEANED_UP);
    daemon.stop();
}

pub(super) fn an_active_slot() {
    obstacle(&["wal_level=logical"], None, |stage, lease| {
        let mut boss = stage.cluster.superuser(lease["database"].as_str().unwrap());
        // A temporary slot is active for as long as its session lives; the other one goes with its database.
        boss.run("select pg_create_logical_replication_slot('fault_active', 'pgoutput', true)");
        boss.run("select pg_create_logical_replication_slot('fault_idle', 'pgoutput')");
        Some(boss)
    });
}

/// Regression: a prepared transaction or a subscription of a tenant blocked its database for ever (found by tenants'
/// leftovers).
pub(super) fn a_subscription() {
    obstacle(&["wal_level=logical"], Some("dropped the subscription"), |stage, lease| {
        let mut boss = stage.cluster.superuser(lease["database"].as_str().unwrap());
        boss.run("create subscription \"odd name\" connection 'dbname=nowhere' publication p with (connect = false, slot_name = 'far_away')");
        Some(boss)
    });
}

pub(super) fn a_client_stuck_in_copy() {
    obstacle(&[], None, |_, lease| {
        let mut tenant = Session::of(lease);
        tenant.begin_copy_in("copy witness (note) from stdin");
        Some(tenant)
    });
    obstacle(&[], None, |_, lease| {
        let mut tenant = Session::of(lease);
        tenant.begin_copy_out("copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout");
        Some(tenant)
    });
}

pub(super) fn a_template_flag() {
    obstacle(&[], None, |stage, lease| {
        let name = lease["database"].as_str().unwrap();
        stage.cluster.superuser("postgres").run(&format!("alter database {name} is_template true"));
        None
    });
}

/// A superuser's program that comes back as often as it is thrown out.
pub(super) fn a_superuser_who_keeps_reconnecting() {
    let (stage, daemon) = Stage::set(&[], &[]);
    stage.under_load(|| {
        let lease = lease(&stage);
        let oid = oid_of(&stage, &lease);
        let (stop, entered) = (AtomicBool::new(false), AtomicUsize::new(0));
        let url = stage.cluster.superuser_url(lease["database"].as_str().unwrap());
        std::thread::scope(|scope| {
            let _stopping = StopOnDrop(&stop);
            // So many that one of them comes into every gap, where there is one.
            for _ in 0..8 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        // By its name, and so it meets whoever comes after as well, until that one is retired for it.
                        if let Ok(mut session) = Session::try_open(&url)
                            && session
                                .try_text("select oid from pg_database where datname = current_database()")
                                .ok()
                                .as_ref()
                                == Some(&oid)
                        {
                            entered.fetch_add(1, Ordering::Relaxed);
                            let _ended = session.try_run("select pg_sleep(30)");
                        }
                    }
                });
            }
            until("it is in", || if entered.load(Ordering::Relaxed) > 0 { Ok(()) } else { Err(String::new()) });
            until_dropped(&stage, &daemon, &oid, &lease);
        });
    });
    stage.audit(&daemon, CLEANED_UP);
    daemon.stop();
}

/// A superuser's session that a daemon with lesser rights may not end: three attempts, then the database is blocked, its slot number
/// rests and another serves; when the session has gone, it goes.
pub(super) fn a_session_that_cannot_be_ended() {
    let cluster = Cluster::start(&["max_prepared_transactions=10"]);
    cluster.superuser("postgres").run("create role \"the daemon\" login createdb createrole password 'd'");
    let place = Place::on(&cluster.url_of("the%20daemon", "d", "postgres"));
    let (stage, daemon) = Stage::with(cluster, place, &[], "");
    let lease = lease(&stage);
    let (name, oid) = (lease["database"].as_str().unwrap().to_owned(), oid_of(&stage, &lease));
    let boss = stage.cluster.superuser(&name);
    stage.under_load(|| {
        stage.api.release(&lease);
        let blocked = until("it is blocked", || {
            stage.ledger.assert_spotless();
            let pool = stage.api.pool(&stage.pool);
            pool["blocked"].as_array().and_then(|all| all.first().cloned()).ok_or_else(|| pool["counts"].to_string())
        });
        assert_eq!(blocked["database"], json!(name), "{blocked}");
        let reason = blocked["reason"].as_str().unwrap();
        assert!(reason.contains("three times") && reason.contains("session"), "{reason}");
        stage.ledger.until_served(20);
        let others = stage.api.get(&format!("/v1/databases?pool={}", stage.pool)).expect(200);
        let at_its_name =
            others["databases"].as_array().unwrap().iter().filter(|found| found["database"] == json!(name));
        assert_eq!(at_its_name.count(), 1, "its slot number rests: {others}");
    });
    let said = "is blocked after three attempts";
    assert_eq!(daemon.log().matches(said).count(), 1, "`{said}`: {}", daemon.log());
    drop(boss);
    stage.catalog().run("update databases set retry_at = now() where state = 'blocked'");
    until_gone(&stage, &daemon, &oid);
    stage.audit(&daemon, CLEANED_UP);
    daemon.stop();
}

/// What an interrupted `drop database` leaves, wherever it hits, and by whomever.
pub(super) fn an_interrupted_drop() {
    let (stage, daemon) = Stage::set(&[], &[]);
    let lease = lease(&stage);
    let mut boss = stage.cluster.superuser("postgres");
    // A spare may get the name of a slot in any moment; its oid stays.
    let oid_of_a = |state| stage.catalog().text(&format!("select oid from databases where state = '{state}' limit 1"));
    let oids: Vec<String> = [oid_of_a("spare"), oid_of_a("ready"), oid_of(&stage, &lease)]
        .into_iter()
        .inspect(|oid| {
            boss.run(&format!("update pg_database set datconnlimit = -2 where oid = {oid}"));
        })
        .collect();
    stage.under_load(|| {
        for oid in &oids {
            until_gone(&stage, &daemon, oid);
        }
    });
    let seen = stage.api.get(&format!("/v1/leases/{}", lease["id"].as_str().unwrap())).expect(200);
    assert_eq!(seen["state"], "revoked", "{seen}");
    assert!(seen["ended_reason"].as_str().unwrap().contains("somebody else"), "{seen}");
    let said = "somebody else's drop of it was interrupted";
    assert_eq!(daemon.log().matches(said).count(), 2, "of spare and ready: {}", daemon.log());
    stage.audit(&daemon, CLEANED_UP);
    daemon.stop();
}

/// A crash in the middle of copying leaves a directory that Postgres never removes: it is counted and told.
pub(super) fn directories_of_no_database() {
    let (stage, mut daemon) = Stage::set_bulky(&[], &[]);
    assert_eq!(stage.api.status()["server"]["orphan_directories"], json!([]));
    let mut left = 0;
    // A copy may be done in the moment between the look and the crash.
    for _ in 0..10 {
        stage.load().during(stage::CALLERS, || {
            stage.until_in_mid_clone();
            stage.cluster.crash();
            stage.cluster.up();
            daemon.until_ready();
            stage.ledger.until_served(stage::CALLERS as usize);
        });
        left = stage.audit(&daemon, CLEANED_UP * 2).orphans;
        if left > 0 {
            break;
        }
    }
    assert!(left > 0, "ten crashes, and none in the middle of a clone");
    stage.assert_orphans_are_told();
    let said = "left directories of no database";
    assert_eq!(daemon.log().matches(said).count(), 1, "{}", daemon.log());
    stage.under_load(|| {});
    let audit = stage.audit(&daemon, CLEANED_UP);
    assert_eq!(audit.orphans, left, "and no more come");
    daemon.stop();
}

/// From 15 on a `drop database` waits for every session of the server, also of other databases, and one that sits in the middle of
/// a COPY does not answer. A live lease is not to be ended for that: others are served, drops wait, and it is told for whom.
///
/// Regression: a session in the middle of a COPY, in any database, held up every drop on Postgres 15 and later, and nobody was
/// told (found by tenants' leftovers).
pub(super) fn a_live_lease_stuck_in_copy() {
    let (stage, daemon) = Stage::set(&[], &[]);
    let lease = lease(&stage);
    let mut tenant = Session::of(&lease);
    tenant.begin_copy_in("copy witness (note) from stdin");
    stage.under_load(|| {
        stage.ledger.until_served(60);
    });
    if stage.cluster.superuser("postgres").major() >= 15 {
        let database = lease["database"].as_str().unwrap();
        until("it is told for whom drops wait", || {
            let warnings = stage.api.status()["server"]["warnings"].to_string();
            if warnings.contains("drops wait for session") && warnings.contains(database) {
                Ok(())
            } else {
                Err(warnings)
            }
        });
        assert_eq!(daemon.log().matches("drops wait for session").count(), 1, "{}", daemon.log());
    }
    drop(tenant);
    stage.api.release(&lease);
    stage.audit(&daemon, CLEANED_UP);
    daemon.stop();
}
