//! External changes: databases of pgdibs are dropped, renamed, recreated or entered with psql.

use std::time::Duration;

use serde_json::{Value, json};

use pgdibs_testing::end_to_end::{Session, Stage, stage, until};

const FULL_AGAIN: Duration = Duration::from_secs(30);

/// An external change of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Drop,
    Rename,
    /// Drops it and creates a foreign one with the same name.
    Recreate,
    /// Opens it, writes into it, and disconnects.
    Enter,
}

const ACTS: [Act; 4] = [Act::Drop, Act::Rename, Act::Recreate, Act::Enter];

/// Changes a database and returns the oid of the foreign database that results, which pgdibs must not touch.
#[track_caller]
fn change_externally(stage: &Stage, name: &str, act: Act) -> Option<String> {
    let mut boss = stage.cluster.superuser("postgres");
    let oid =
        |boss: &mut Session, name: &str| boss.text(&format!("select oid from pg_database where datname = '{name}'"));
    let drop = |boss: &mut Session| {
        boss.run(&format!("alter database {name} is_template false"));
        boss.run(&format!("drop database {name} with (force)"));
    };
    match act {
        Act::Drop => {
            drop(&mut boss);
            None
        }
        Act::Rename => {
            let theirs = format!("theirs_{name}");
            boss.run(&format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"));
            boss.run(&format!("alter database {name} rename to {theirs}"));
            Some(oid(&mut boss, &theirs))
        }
        Act::Recreate => {
            drop(&mut boss);
            boss.run(&format!("create database {name}"));
            Some(oid(&mut boss, name))
        }
        Act::Enter => {
            boss.run(&format!("alter database {name} allow_connections true"));
            let mut inside = stage.cluster.superuser(name);
            inside.run("create table externally (n int)");
            None
        }
    }
}

/// Checks that the foreign database is unchanged, then drops it.
#[track_caller]
fn assert_foreign_unchanged(stage: &Stage, theirs: Option<&String>) {
    let Some(oid) = theirs else { return };
    let mut boss = stage.cluster.superuser("postgres");
    let name = boss.text(&format!("select datname from pg_database where oid = {oid}"));
    assert_ne!(name, "-", "a foreign database was dropped");
    boss.run(&format!("alter database {name} is_template false"));
    boss.run(&format!("drop database {name} with (force)"));
}

/// A changed spare or ready database is not leased, and another replaces it.
fn on_an_idle_one(state: &str) {
    let (stage, daemon) = Stage::set(&[], &[]);
    for act in ACTS {
        let (theirs, oid) = {
            // The pool is idle, so spare and ready databases keep their state until a request.
            let name = stage.names(state).remove(0);
            let oid = stage
                .cluster
                .superuser("postgres")
                .text(&format!("select oid from pg_database where datname = '{name}'"));
            (change_externally(&stage, &name, act), oid)
        };
        // The callers acquire and reset at once, before the reconciler detects the change.
        stage.under_load(|| {});
        until("its row is deleted", || {
            let left = stage.catalog().text(&format!("select name from databases where oid = {oid}"));
            if left == "-" { Ok(()) } else { Err(format!("{act:?}: {left}")) }
        });
        assert_foreign_unchanged(&stage, theirs.as_ref());
        stage.audit(&daemon, FULL_AGAIN);
    }
    let log = daemon.log();
    for text in
        ["it was dropped outside pgdibs", "it was renamed outside pgdibs", "it had a session before it was leased"]
    {
        assert!(log.contains(text), "`{text}`: {log}");
    }
    daemon.stop();
}

pub(super) fn external_change_of_spare() {
    on_an_idle_one("spare");
}

pub(super) fn external_change_of_ready_database() {
    on_an_idle_one("ready");
}

/// The lease of a dropped or renamed database is revoked with the reason; a foreign session in a leased database has no effect.
pub(super) fn external_change_of_leased_database() {
    let (stage, daemon) = Stage::set(&[], &[]);
    for act in ACTS {
        let lease = stage.api.lease(&json!({"pool": stage.pool, "fingerprint": "first", "wait_seconds": 30}));
        let path = format!("/v1/leases/{}", lease["id"].as_str().unwrap());
        stage.load().during(stage::CALLERS, || {
            let theirs = change_externally(&stage, lease["database"].as_str().unwrap(), act);
            let state = |wanted: &str| {
                until("the lease", || {
                    let seen = stage.api.get(&path).expect(200);
                    if seen["state"] == wanted { Ok(seen) } else { Err(seen.to_string()) }
                })
            };
            if act == Act::Enter {
                stage.ledger.until_served(10);
                state("live");
                stage.api.release(&lease);
            } else {
                let reason = state("revoked")["ended_reason"].as_str().unwrap().to_owned();
                assert!(reason.contains("outside pgdibs"), "{reason}");
                stage.api.post(&format!("{path}/renew"), &json!({})).refused(410, "lease_ended");
            }
            stage.ledger.until_served(stage::CALLERS as usize);
            assert_foreign_unchanged(&stage, theirs.as_ref());
        });
        stage.audit(&daemon, FULL_AGAIN);
    }
    daemon.stop();
}

/// A changed template: its leases continue, it is not cloned any more, and it can be built again. The daemon ends foreign sessions in
/// a template, because they block its clones.
///
/// Regression: a foreign session blocked the clones of a template without a report (found with psql).
pub(super) fn external_change_of_template() {
    let (stage, daemon) = Stage::set(&[], &[]);
    for (number, act) in ACTS.into_iter().enumerate() {
        let fingerprint = format!("external-{number}");
        stage.build(&fingerprint);
        let acquire_request = json!({"pool": stage.pool, "fingerprint": fingerprint, "wait_seconds": 30});
        let lease = stage.api.lease(&acquire_request);
        let mut session = Session::of(&lease);
        session.run("insert into witness (note) values ('mine')");
        let path = format!("/v1/pools/{}/templates/{fingerprint}", stage.pool);
        let name = template_named(&stage, &fingerprint)["database"].as_str().unwrap().to_owned();
        stage.under_load(|| {
            if act == Act::Enter {
                let session = open_session_in(&stage, &name);
                let more: Vec<Value> = (0..3).map(|_| stage.api.lease(&acquire_request)).collect();
                drop(session);
                more.iter().for_each(|lease| stage.api.release(lease));
                return;
            }
            let theirs = change_externally(&stage, &name, act);
            until("the template retires", || {
                let seen = template_named(&stage, &fingerprint);
                if seen["state"] == "ready" { Err(seen.to_string()) } else { Ok(()) }
            });
            stage.api.post("/v1/leases", &acquire_request).refused(404, "template_not_found");
            assert_foreign_unchanged(&stage, theirs.as_ref());
            session.run("insert into witness (note) values ('still mine')");
            let again = stage.api.put(&path, &json!({"wait_seconds": 0})).expect(201);
            let token = json!({"token": again["build"]["token"], "detail": "seen"});
            assert_eq!(stage.api.post(&format!("{path}/abandon"), &token).status, 204);
        });
        stage.api.release(&lease);
        drop(session);
        let _gone = stage.api.delete(&path);
        stage.audit(&daemon, FULL_AGAIN);
    }
    let text = "its database was dropped or renamed outside pgdibs";
    assert_eq!(daemon.log().matches(text).count(), 3, "{}", daemon.log());
    daemon.stop();
}

fn template_named(stage: &Stage, fingerprint: &str) -> Value {
    let templates = stage.api.pool(&stage.pool)["templates"].clone();
    templates.as_array().unwrap().iter().find(|found| found["fingerprint"] == fingerprint).cloned().unwrap_or_default()
}

fn open_session_in(stage: &Stage, name: &str) -> Session {
    stage.cluster.superuser("postgres").run(&format!("alter database {name} allow_connections true"));
    let mut inside = stage.cluster.superuser(name);
    inside.run("select 1");
    inside
}
