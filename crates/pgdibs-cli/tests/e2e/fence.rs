//! Tenants with locks that the daemon needs: a lease ends within two seconds, and other pools are not delayed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use pgdibs_testing::end_to_end::{Api, Place, Session, pool_name, until};

/// The maximum time from the 204 until the old session has ended and the server rejects the URL.
const PROMISED: Duration = Duration::from_secs(2);

/// Statements of a tenant that stay open; `{own}` is its database, `{sibling}` another of its pool, `{user}` its login.
const HOLDS: [&str; 4] = [
    "begin; grant create on database {own} to current_user",
    "begin; grant create on database {sibling} to current_user",
    "begin; set local role none; alter role {user} password 'mine'",
    "begin; drop owned by current_user",
];

/// Acquires, resets and releases a lease of another pool; returns the duration.
fn cycle(api: &Api, pool: &str) -> Duration {
    let began = Instant::now();
    let lease = api.lease(&json!({"pool": pool, "wait_seconds": 30}));
    let path = format!("/v1/leases/{}/reset", lease["id"].as_str().unwrap());
    api.post(&path, &json!({"generation": 1, "wait_seconds": 30})).expect(200);
    api.release(&lease);
    began.elapsed()
}

fn p95(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() * 19 / 20]
}

fn hold(lease: &Value, sibling: &Value, sql: &str) -> Session {
    let text = |value: &Value, field: &str| value[field].as_str().unwrap().to_owned();
    let sql = sql
        .replace("{own}", &text(lease, "database"))
        .replace("{sibling}", &text(sibling, "database"))
        .replace("{user}", &text(lease, "user"));
    // `drop owned` updates the rows of all databases of the pool. Beside a rename of one of them it fails (XX000), or the daemon
    // ends it because it blocks the rename.
    let mut held = None;
    until("the tenant has its locks", || {
        let mut session = Session::of(lease);
        session.try_run(&sql).map_err(|error| error.to_string())?;
        held = Some(session);
        Ok(())
    });
    held.expect("until ends with a session")
}

#[test]
fn reset_is_not_delayed_by_a_stuck_return() {
    let place = Place::create();
    let daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let pool = pool_name("stuck");
    api.make_pool(&pool, &json!({"warm": 3, "max": 6, "spares": 3}), "create table t (n int)");
    let (stuck, resetting) = (api.lease(&json!({"pool": pool})), api.lease(&json!({"pool": pool})));
    let mut session = Session::of(&stuck);
    let process: i32 = session.text("select pg_backend_pid()").parse().unwrap();
    let process = nix::unistd::Pid::from_raw(process);
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let began = Instant::now();
    api.release(&stuck);
    let path = format!("/v1/leases/{}/reset", resetting["id"].as_str().unwrap());
    let mut slowest = Duration::ZERO;
    // During all first attempts, none of which may delay a reset.
    for generation in 1..=30 {
        let started = Instant::now();
        api.post(&path, &json!({"generation": generation, "wait_seconds": 30})).expect(200);
        slowest = slowest.max(started.elapsed());
        if began.elapsed() > Duration::from_secs(4) {
            break;
        }
    }
    println!("slowest reset beside a return that waits for a stopped session: {slowest:?}");
    assert!(slowest < PROMISED, "{slowest:?}");
    assert!(Session::try_open(stuck["url"].as_str().unwrap()).is_err(), "the server rejects its URL nevertheless");
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGCONT).unwrap();
    api.release(&resetting);
    api.until_counts(&pool, &json!({"leased": 0, "retiring": 0, "blocked": 0}));
    daemon.stop();
}

/// Runs a statement that may wait for a lock in a separate thread; it ends with its session.
fn begin_waiting(lease: &Value, sql: String) -> std::thread::JoinHandle<Result<(), sqlx::Error>> {
    let mut session = Session::of(lease);
    std::thread::spawn(move || session.try_run(&sql))
}

/// These take long: `make test-all` runs them, `make test` does not.
mod long {
    use super::*;

    #[test]
    fn tenant_keeps_no_session_out_of_another_pools_database() {
        let place = Place::create();
        let daemon = place.daemon(&[]);
        let api = daemon.api.clone();
        let (pool, other) = (pool_name("holding"), pool_name("other"));
        for pool in [&pool, &other] {
            api.make_pool(pool, &json!({"warm": 1, "max": 2, "spares": 1}), "create table t (n int)");
        }
        let (tenant, victim) = (api.lease(&json!({"pool": pool})), api.lease(&json!({"pool": other})));
        let database = victim["database"].as_str().unwrap();
        let mut holder = Session::of(&tenant);
        holder.run(&format!("begin; alter role current_user in database {database} set work_mem to '1MB'"));
        let queued = begin_waiting(&tenant, format!("drop database {database}"));
        let waits = "select count(*) from pg_locks where not granted and locktype = 'object'";
        let mut superuser = place.superuser("postgres");
        until("it waits for the lock, or was ended", || {
            if superuser.text(waits) == "1" || queued.is_finished() { Ok(()) } else { Err("not yet".to_owned()) }
        });
        let began = Instant::now();
        drop(Session::of(&victim));
        assert!(began.elapsed() < PROMISED, "{:?}", began.elapsed());
        queued.join().unwrap().expect_err("it is another pool's");
        daemon.stop();
    }

    #[test]
    fn full_lock_table_keeps_no_lease_and_no_other_pool() {
        let place = Place::create();
        let daemon = place.daemon(&[]);
        let api = daemon.api.clone();
        let (pool, other) = (pool_name("filling"), pool_name("other"));
        for pool in [&pool, &other] {
            api.make_pool(pool, &json!({"warm": 1, "max": 2, "spares": 2}), "create table t (n int)");
        }
        let tenant = api.lease(&json!({"pool": pool}));
        let mut filling = Session::of(&tenant);
        filling.try_run("select pg_advisory_lock(g) from generate_series(1, 1000000) g").expect_err("no lock is left");
        let began = Instant::now();
        let path = format!("/v1/leases/{}", tenant["id"].as_str().unwrap());
        until("the lease ends", || {
            let answer = api.delete(&path);
            if answer.status == 204 { Ok(()) } else { Err(format!("{}: {}", answer.status, answer.body)) }
        });
        until("the session has ended and the server rejects the URL", || {
            let answers = filling.try_text("select 1").is_ok();
            let admitted = Session::try_open(tenant["url"].as_str().unwrap()).is_ok();
            if answers || admitted { Err(format!("answers {answers}, admitted {admitted}")) } else { Ok(()) }
        });
        until("another pool is served", || {
            let answer = api.post("/v1/leases", &json!({"pool": other}));
            if answer.status == 201 { Ok(()) } else { Err(format!("{}: {}", answer.status, answer.body)) }
        });
        assert!(began.elapsed() < PROMISED, "{:?}", began.elapsed());
        daemon.stop();
    }

    #[test]
    fn session_that_cannot_be_ended_is_logged_once() {
        let place = Place::create();
        let daemon = place.daemon(&[]);
        let api = daemon.api.clone();
        let pool = pool_name("stuck");
        api.make_pool(&pool, &json!({"warm": 2, "max": 4, "spares": 2}), "create table t (n int)");
        let (stuck, sibling) = (api.lease(&json!({"pool": pool})), api.lease(&json!({"pool": pool})));
        let mut session = Session::of(&stuck);
        let process: i32 = session.text("select pg_backend_pid()").parse().unwrap();
        let name = sibling["database"].as_str().unwrap();
        session.run(&format!("begin; grant create on database {name} to current_user"));
        let process = nix::unistd::Pid::from_raw(process);
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGSTOP).unwrap();
        api.release(&sibling);
        let began = Instant::now();
        until("several attempts were made", || {
            let tried = daemon.log().matches("a step failed").count();
            if tried >= 2 && began.elapsed() > Duration::from_secs(3) { Ok(()) } else { Err(tried.to_string()) }
        });
        let lines = daemon.log().matches("ended tenant session").count();
        assert_eq!(lines, 1, "{}", daemon.log());
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGCONT).unwrap();
        daemon.stop();
    }

    #[test]
    fn release_closes_login_despite_tenant_locks() {
        let place = Place::create();
        let daemon = place.daemon(&[]);
        let api = daemon.api.clone();
        let (pool, other) = (pool_name("holding"), pool_name("other"));
        let settings = json!({"warm": 2, "max": 6, "spares": 2});
        api.make_pool(&pool, &settings, "create table t (n int)");
        api.make_pool(&other, &settings, "create table t (n int)");
        let mut alone: Vec<Duration> = (0..20).map(|_| cycle(&api, &other)).collect();
        let mut beside = Vec::new();
        for sql in HOLDS {
            let request = json!({"pool": pool, "wait_seconds": 30});
            let (tenant, sibling) = (api.lease(&request), api.lease(&request));
            let mut session = hold(&tenant, &sibling, sql);
            let mut siblings = Session::of(&sibling);
            // The lease with the locked row is released first, while the session with the lock is open.
            for (lease, session) in [(&sibling, &mut siblings), (&tenant, &mut session)] {
                let began = Instant::now();
                api.release(lease);
                beside.push(cycle(&api, &other));
                until("the session has ended and the server rejects the URL", || {
                    let answers = session.try_text("select 1").is_ok();
                    let admitted = Session::try_open(lease["url"].as_str().unwrap()).is_ok();
                    if answers || admitted {
                        Err(format!("{sql}: answers {answers}, admitted {admitted}"))
                    } else {
                        Ok(())
                    }
                });
                assert!(began.elapsed() < PROMISED, "{sql}: {:?}", began.elapsed());
                beside.push(cycle(&api, &other));
            }
        }
        let (before, during) = (p95(&mut alone), p95(&mut beside));
        println!("p95 of other pools' cycles: {before:?} alone, {during:?} with tenants that hold locks");
        let slowest = beside.last().unwrap();
        assert!(*slowest < PROMISED, "another pool waited for a tenant: {slowest:?}");
        let failed = daemon.log().matches("a step failed").count();
        assert_eq!(failed, 0, "{}", daemon.log());
        daemon.stop();
    }
}
