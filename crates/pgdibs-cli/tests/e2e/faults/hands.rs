//! Hands: somebody with psql drops, renames, recreates or enters what is ours.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Session, Stage, stage, until};

const FULL_AGAIN: Duration = Duration::from_secs(30);

/// What somebody does with a database of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Drop,
    Rename,
    /// Drops it and makes one of the same name, which is theirs from then on.
    Recreate,
    /// Opens it, writes into it, and leaves.
    Enter,
}

const ACTS: [Act; 4] = [Act::Drop, Act::Rename, Act::Recreate, Act::Enter];

/// Does it to a database and returns the oid that stands for it afterwards: nobody may touch that one.
#[track_caller]
fn lay_hands_on(stage: &Stage, name: &str, act: Act) -> Option<String> {
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
            inside.run("create table by_hand (n int)");
            None
        }
    }
}

/// What belongs to somebody else by now is as it was; then they take it away.
#[track_caller]
fn theirs_is_untouched(stage: &Stage, theirs: Option<&String>) {
    let Some(oid) = theirs else { return };
    let mut boss = stage.cluster.superuser("postgres");
    let name = boss.text(&format!("select datname from pg_database where oid = {oid}"));
    assert_ne!(name, "-", "a database of somebody else was dropped");
    boss.run(&format!("alter database {name} is_template false"));
    boss.run(&format!("drop database {name} with (force)"));
}

/// A spare or a ready database: nobody is given it, and another takes its place.
fn on_an_idle_one(state: &str) {
    let (stage, daemon) = Stage::set(&[], &[]);
    for act in ACTS {
        let (theirs, oid) = {
            // The pool is at rest, so what is spare or ready stays so until somebody asks for it.
            let name = stage.names(state).remove(0);
            let oid = stage
                .cluster
                .superuser("postgres")
                .text(&format!("select oid from pg_database where datname = '{name}'"));
            (lay_hands_on(&stage, &name, act), oid)
        };
        // Nobody waits for the reconciler to see it: the callers ask at once, for leases and for resets.
        stage.under_load(|| {});
        until("its row is gone", || {
            let left = stage.catalog().text(&format!("select name from databases where oid = {oid}"));
            if left == "-" { Ok(()) } else { Err(format!("{act:?}: {left}")) }
        });
        theirs_is_untouched(&stage, theirs.as_ref());
        stage.audit(&daemon, FULL_AGAIN);
    }
    let log = daemon.log();
    for said in
        ["somebody else dropped it", "somebody else renamed it", "somebody connected to it before it was granted"]
    {
        assert!(log.contains(said), "`{said}`: {log}");
    }
    daemon.stop();
}

pub(super) fn on_a_spare() {
    on_an_idle_one("spare");
}

pub(super) fn on_a_ready_database() {
    on_an_idle_one("ready");
}

/// A leased one: the lease is revoked, and says why; entering it is its holder's business.
pub(super) fn on_a_leased_database() {
    let (stage, daemon) = Stage::set(&[], &[]);
    for act in ACTS {
        let lease = stage.api.lease(&json!({"pool": stage.pool, "fingerprint": "first", "wait_seconds": 30}));
        let path = format!("/v1/leases/{}", lease["id"].as_str().unwrap());
        stage.load().during(stage::CALLERS, || {
            let theirs = lay_hands_on(&stage, lease["database"].as_str().unwrap(), act);
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
                assert!(reason.contains("by somebody else"), "{reason}");
                stage.api.post(&format!("{path}/renew"), &json!({})).refused(410, "lease_ended");
            }
            stage.ledger.until_served(stage::CALLERS as usize);
            theirs_is_untouched(&stage, theirs.as_ref());
        });
        stage.audit(&daemon, FULL_AGAIN);
    }
    daemon.stop();
}

/// A template: what was leased from it lives on, nothing more is cloned from it, and it can be built again. Somebody who only sits in
/// it is shown the door, since nothing can be cloned meanwhile.
///
/// Regression: a template in which somebody sat could not be cloned, and nobody was told (found by hands with psql).
pub(super) fn on_a_template() {
    let (stage, daemon) = Stage::set(&[], &[]);
    for (number, act) in ACTS.into_iter().enumerate() {
        let fingerprint = format!("hands-{number}");
        stage.build(&fingerprint);
        let acquire_request = json!({"pool": stage.pool, "fingerprint": fingerprint, "wait_seconds": 30});
        let lease = stage.api.lease(&acquire_request);
        let mut session = Session::of(&lease);
        session.run("insert into witness (note) values ('mine')");
        let path = format!("/v1/pools/{}/templates/{fingerprint}", stage.pool);
        let name = template_named(&stage, &fingerprint)["database"].as_str().unwrap().to_owned();
        stage.under_load(|| {
            if act == Act::Enter {
                let sitting = somebody_sits_in(&stage, &name);
                let more: Vec<Value> = (0..3).map(|_| stage.api.lease(&acquire_request)).collect();
                drop(sitting);
                more.iter().for_each(|lease| stage.api.release(lease));
                return;
            }
            let theirs = lay_hands_on(&stage, &name, act);
            until("the template is given up", || {
                let seen = template_named(&stage, &fingerprint);
                if seen["state"] == "ready" { Err(seen.to_string()) } else { Ok(()) }
            });
            stage.api.post("/v1/leases", &acquire_request).refused(404, "template_not_found");
            theirs_is_untouched(&stage, theirs.as_ref());
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
    let said = "its database was dropped or renamed by somebody else";
    assert_eq!(daemon.log().matches(said).count(), 3, "{}", daemon.log());
    daemon.stop();
}

fn template_named(stage: &Stage, fingerprint: &str) -> Value {
    let templates = stage.api.pool(&stage.pool)["templates"].clone();
    templates.as_array().unwrap().iter().find(|found| found["fingerprint"] == fingerprint).cloned().unwrap_or_default()
}

fn somebody_sits_in(stage: &Stage, name: &str) -> Session {
    stage.cluster.superuser("postgres").run(&format!("alter database {name} allow_connections true"));
    let mut inside = stage.cluster.superuser(name);
    inside.run("select 1");
    inside
}
