//! Databases that cannot be renamed or dropped because of leftovers of tenants and others, and the pre-drop cleanup.

use std::time::{Duration, Instant};

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use pgdibs_testing::end_to_end::{Cluster, Daemon, Place, Session, Stage, StopOnDrop, stage, until};

/// The maximum time for the cleanup of a leftover under the load of eight callers.
const CLEANED_UP: Duration = Duration::from_secs(15);

/// A lease in addition to those of the callers.
fn lease(stage: &Stage) -> Value {
    stage.api.lease(&json!({"pool": stage.pool, "holder": "tenant with leftovers", "wait_seconds": 30}))
}

/// Releases a lease and waits until its database is dropped.
#[track_caller]
fn until_dropped(stage: &Stage, daemon: &Daemon, oid: &str, lease: &Value) {
    stage.api.release(lease);
    until_oid_dropped(stage, daemon, oid);
}

#[track_caller]
fn until_oid_dropped(stage: &Stage, daemon: &Daemon, oid: &str) {
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

/// A tenant leaves an object or a session that blocks the drop of its database; `text` is the expected log line.
fn obstacle(settings: &[&str], text: Option<&str>, leave: impl Fn(&Stage, &Value) -> Option<Session>) {
    let (stage, daemon) = Stage::set(settings, &[]);
    stage.under_load(|| {
        let lease = lease(&stage);
        let oid = oid_of(&stage, &lease);
        let session = leave(&stage, &lease);
        until_dropped(&stage, &daemon, &oid, &lease);
        drop(session);
    });
    if let Some(text) = text {
        assert_eq!(daemon.log().matches(text).count(), 1, "`{text}`: {}", daemon.log());
    }
    stage.audit(&daemon, CLEANED_UP);
    daemon.stop();
}

/// Regression: a prepared transaction or a subscription of a tenant blocked its database for ever (found by leftovers
/// of tenants).
pub(super) fn prepared_transaction() {
    obstacle(&[], Some("rolled back the prepared transaction"), |_, lease| {
        let mut tenant = Session::of(lease);
        tenant.run("begin; insert into witness (note) values ('prepared'); prepare transaction 'left it''s behind'");
        None
    });
}

/// Regression: a prepared transaction or a subscription of a tenant blocked its database for ever (found by leftovers
/// of tenants).
pub(super) fn prepared_transaction_at_reset() {
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

pub(super) fn active_replication_slot() {
    obstacle(&["wal_level=logical"], None, |stage, lease| {
        let mut boss = stage.cluster.superuser(lease["database"].as_str().unwrap());
        // A temporary slot is active as long as its session; the other one is dropped with its database.
        boss.run("select pg_create_logical_replication_slot('fault_active', 'pgoutput', true)");
        boss.run("select pg_create_logical_replication_slot('fault_idle', 'pgoutput')");
        Some(boss)
    });
}

/// Regression: a prepared transaction or a subscription of a tenant blocked its database for ever (found by leftovers
/// of tenants).
pub(super) fn subscription_of_tenant() {
    obstacle(&["wal_level=logical"], Some("dropped the subscription"), |stage, lease| {
        let mut boss = stage.cluster.superuser(lease["database"].as_str().unwrap());
        boss.run("create subscription \"odd name\" connection 'dbname=nowhere' publication p with (connect = false, slot_name = 'far_away')");
        Some(boss)
    });
}

pub(super) fn session_stuck_in_copy() {
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

pub(super) fn template_flag() {
    obstacle(&[], None, |stage, lease| {
        let name = lease["database"].as_str().unwrap();
        stage.cluster.superuser("postgres").run(&format!("alter database {name} is_template true"));
        None
    });
}

/// A superuser's program that reconnects as often as its sessions are ended.
pub(super) fn reconnecting_superuser() {
    let (stage, daemon) = Stage::set(&[], &[]);
    stage.under_load(|| {
        let lease = lease(&stage);
        let oid = oid_of(&stage, &lease);
        let (stop, entered) = (AtomicBool::new(false), AtomicUsize::new(0));
        let url = stage.cluster.superuser_url(lease["database"].as_str().unwrap());
        std::thread::scope(|scope| {
            let _stopping = StopOnDrop(&stop);
            // So many that one of them uses every gap.
            for _ in 0..8 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        // It connects by name, so it also enters the next database in the slot, which is then retired.
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
            until("it is connected", || if entered.load(Ordering::Relaxed) > 0 { Ok(()) } else { Err(String::new()) });
            until_dropped(&stage, &daemon, &oid, &lease);
        });
    });
    stage.audit(&daemon, CLEANED_UP);
    daemon.stop();
}

/// A superuser's session that a daemon without superuser rights cannot end: after three attempts the database is blocked and another
/// slot number serves; the database is dropped after the session has ended.
pub(super) fn unterminable_session() {
    let cluster = Cluster::start(&["max_prepared_transactions=10"]);
    cluster.superuser("postgres").run("create role \"the daemon\" login createdb createrole password 'd'");
    let place = Place::on(&cluster.url_of("the daemon", "d", "postgres"));
    let (stage, daemon) = Stage::with(cluster, place, &[], "");
    let lease = lease(&stage);
    let (name, oid) = (lease["database"].as_str().unwrap().to_owned(), oid_of(&stage, &lease));
    let boss = stage.cluster.superuser(&name);
    stage.under_load(|| {
        stage.api.release(&lease);
        let blocked = until("the database is blocked", || {
            stage.ledger.assert_no_violations();
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
        assert_eq!(at_its_name.count(), 1, "its slot number is not used: {others}");
    });
    let text = "is blocked after three attempts";
    assert_eq!(daemon.log().matches(text).count(), 1, "`{text}`: {}", daemon.log());
    drop(boss);
    stage.catalog().run("update databases set retry_at = now() where state = 'blocked'");
    until_oid_dropped(&stage, &daemon, &oid);
    stage.audit(&daemon, CLEANED_UP);
    daemon.stop();
}

/// Databases that an interrupted `drop database` left invalid.
pub(super) fn interrupted_drop() {
    let (stage, daemon) = Stage::set(&[], &[]);
    let lease = lease(&stage);
    let mut boss = stage.cluster.superuser("postgres");
    // A spare can get the name of a slot at any moment; its oid does not change.
    let oid_of_a = |state| stage.catalog().text(&format!("select oid from databases where state = '{state}' limit 1"));
    let oids: Vec<String> = [oid_of_a("spare"), oid_of_a("ready"), oid_of(&stage, &lease)]
        .into_iter()
        .inspect(|oid| {
            boss.run(&format!("update pg_database set datconnlimit = -2 where oid = {oid}"));
        })
        .collect();
    stage.under_load(|| {
        for oid in &oids {
            until_oid_dropped(&stage, &daemon, oid);
        }
    });
    let seen = stage.api.get(&format!("/v1/leases/{}", lease["id"].as_str().unwrap())).expect(200);
    assert_eq!(seen["state"], "revoked", "{seen}");
    assert!(seen["ended_reason"].as_str().unwrap().contains("outside pgdibs"), "{seen}");
    let text = "a drop of it outside pgdibs was interrupted";
    assert_eq!(daemon.log().matches(text).count(), 2, "one line each for spare and ready: {}", daemon.log());
    stage.audit(&daemon, CLEANED_UP);
    daemon.stop();
}

/// A crash during a copy leaves a directory that Postgres never removes; the daemon counts and reports it.
pub(super) fn orphan_directories() {
    let (stage, mut daemon) = Stage::set_bulky(&[], &[]);
    assert_eq!(stage.api.status()["server"]["orphan_directories"], json!([]));
    let mut left = 0;
    // A copy can end between the poll and the crash.
    for _ in 0..10 {
        stage.load().during(stage::CALLERS, || {
            stage.until_in_mid_clone();
            stage.cluster.crash();
            stage.cluster.start_again();
            daemon.until_ready();
            stage.ledger.until_served(stage::CALLERS as usize);
        });
        left = stage.audit(&daemon, CLEANED_UP * 2).orphans;
        if left > 0 {
            break;
        }
    }
    assert!(left > 0, "none of ten crashes hit a clone");
    stage.assert_orphans_are_reported();
    let text = "left directories of no database";
    assert_eq!(daemon.log().matches(text).count(), 1, "{}", daemon.log());
    stage.under_load(|| {});
    let audit = stage.audit(&daemon, CLEANED_UP);
    assert_eq!(audit.orphans, left, "no further directories");
    daemon.stop();
}

/// From Postgres 15 on, `drop database` waits for every session of the server, also in other databases, and a session in a COPY does
/// not respond. The daemon does not end a live lease for this: other callers are served, drops wait, and it reports the session.
///
/// Regression: a session in a COPY, in any database, blocked every drop on Postgres 15 and later without a report (found by
/// leftovers of tenants).
pub(super) fn live_lease_stuck_in_copy() {
    let (stage, daemon) = Stage::set(&[], &[]);
    let lease = lease(&stage);
    let mut tenant = Session::of(&lease);
    tenant.begin_copy_in("copy witness (note) from stdin");
    stage.under_load(|| {
        stage.ledger.until_served(60);
    });
    if stage.cluster.superuser("postgres").major() >= 15 {
        let database = lease["database"].as_str().unwrap();
        until("the status reports the session that blocks drops", || {
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
