//! `kill -9` of the daemon at random moments under load: leases survive, leased databases are clean, nothing leaks.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pgdibs::Method;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use pgdibs_testing::end_to_end::{Api, Place, Session, StopOnDrop, pool_name, until};

const KILLS: usize = 8;
const CALLERS: usize = 4;

/// The operations of the callers, to check that there was load.
#[derive(Default)]
struct Finished {
    leases: AtomicUsize,
    resets: AtomicUsize,
    keeps: AtomicUsize,
    releases: AtomicUsize,
}

struct Caller<'a> {
    api: &'a Api,
    pool: &'a str,
    name: String,
    random: StdRng,
    stop: &'a AtomicBool,
    done: &'a Finished,
}

impl Caller<'_> {
    /// Repeats a call until a daemon answers, as a client does during a restart. Only connection errors and answers with
    /// Retry-After are retried.
    fn call(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        until(&format!("{} gets an answer to {method} {path}", self.name), || {
            match self.api.try_call(method.clone(), path, Some(body)) {
                Ok(answer) if answer.retry_after.is_some() => Err(answer.body.to_string()),
                Ok(answer) => Ok((answer.status, answer.body)),
                Err(error) => Err(error),
            }
        })
    }

    fn assert_clean(&self, session: &mut Session, lease: &Value) {
        let found = session.text("select string_agg(note, ', ') from witness");
        assert_eq!(found, "-", "the leased database is not clean: {lease}");
        session.run(&format!("insert into witness (note) values ('{} in {}')", self.name, lease["id"]));
    }

    fn work(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.one_lease();
        }
    }

    fn one_lease(&mut self) {
        let run = format!("{:016x}", self.random.random::<u64>());
        let acquire_request =
            json!({"pool": self.pool, "run": run, "worker": "w", "holder": self.name, "wait_seconds": 5});
        let (status, lease) = self.call(Method::POST, "/v1/leases", &acquire_request);
        assert!(matches!(status, 200 | 201), "{lease}");
        self.done.leases.fetch_add(1, Ordering::Relaxed);
        let id = lease["id"].as_str().unwrap().to_owned();
        let mut session = Session::of(&lease);
        self.assert_clean(&mut session, &lease);
        for _ in 0..self.random.random_range(0..4) {
            match self.random.random_range(0..4) {
                0 => self.reset(&id, &mut session),
                1 => self.keep(&id),
                _ => {
                    // A live lease keeps its session, whichever daemon was killed.
                    let pause = self.random.random_range(0.0..0.3);
                    session.run(&format!("select pg_sleep({pause}); insert into witness (note) values ('more')"));
                    let (status, seen) = self.call(Method::POST, &format!("/v1/leases/{id}/renew"), &json!({}));
                    assert_eq!((status, &seen["state"]), (200, &json!("live")), "{seen}");
                }
            }
        }
        if self.random.random_bool(0.5) {
            drop(session);
        } else {
            // The session outlives its lease.
            std::mem::forget(session);
        }
        let (status, answer) = self.call(Method::DELETE, &format!("/v1/leases/{id}"), &json!({}));
        assert_eq!(status, 204, "{answer}");
        self.done.releases.fetch_add(1, Ordering::Relaxed);
        until("the login of an ended lease is closed", || match Session::try_open(lease["url"].as_str().unwrap()) {
            Ok(_) => Err(format!("it opens {lease}")),
            Err(_) => Ok(()),
        });
    }

    fn reset(&mut self, id: &str, session: &mut Session) {
        let (_, before) = self.call(Method::GET, &format!("/v1/leases/{id}"), &Value::Null);
        let generation = before["generation"].as_u64().unwrap();
        let body = json!({"generation": generation, "wait_seconds": 5});
        let (status, after) = self.call(Method::POST, &format!("/v1/leases/{id}/reset"), &body);
        assert_eq!((status, after["generation"].as_u64()), (200, Some(generation + 1)), "{after}");
        assert_eq!(after["url"], before["url"]);
        assert!(session.try_run("select 1").is_err(), "a session on the old database is still open");
        *session = Session::of(&after);
        self.assert_clean(session, &after);
        self.done.resets.fetch_add(1, Ordering::Relaxed);
    }

    fn keep(&self, id: &str) {
        let body = json!({"seconds": 1, "reason": "inspection"});
        let (status, kept) = self.call(Method::POST, &format!("/v1/leases/{id}/keep"), &body);
        assert_eq!(status, 200, "{kept}");
        self.done.keeps.fetch_add(1, Ordering::Relaxed);
    }
}

/// Set `PGDIBS_TEST_SEED` to the seed of a failed run to repeat its choices.
fn seed() -> u64 {
    let given = std::env::var("PGDIBS_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    given.unwrap_or_else(rand::random)
}

#[test]
fn daemon_killed_at_random_keeps_leases_and_leaks_nothing() {
    let seed = seed();
    println!("PGDIBS_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let place = Place::new();
    let pool = pool_name("storm");
    let mut daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let settings = json!({"warm": 2, "max": 6, "spares": 2});
    api.make_pool(&pool, &settings, "create table witness (id bigserial primary key, note text)");
    // Foreign databases, one with the name of a slot.
    let foreign = [format!("{pool}_gw7"), "of_another_user".to_owned()];
    let identity = "select datname || ' ' || oid from pg_database where datname = ";
    let mut boss = place.superuser("postgres");
    let foreign_before: Vec<_> = foreign
        .iter()
        .map(|name| {
            boss.run(&format!("create database {name}"));
            boss.list(&format!("{identity}'{name}'"))
        })
        .collect();
    let steady = api.lease(&json!({"pool": pool, "holder": "permanent holder"}));
    let mut steady_session = Session::of(&steady);
    steady_session.run("insert into witness (note) values ('steady')");

    let (stop, done) = (AtomicBool::new(false), Finished::default());
    let daemon = std::thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        for number in 0..CALLERS {
            let random = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
            let (api, pool, stop, done) = (&api, pool.as_str(), &stop, &done);
            scope.spawn(move || Caller { api, pool, name: format!("caller {number}"), random, stop, done }.work());
        }
        for _ in 0..KILLS {
            // Some kills hit the start, others the load.
            if random.random_bool(0.5) {
                let before = done.releases.load(Ordering::Relaxed);
                until("callers are served again", || match done.releases.load(Ordering::Relaxed) - before {
                    0..3 => Err("not enough yet".to_owned()),
                    _ => Ok(()),
                });
            }
            let moment = Instant::now() + Duration::from_millis(random.random_range(0..700));
            until("the moment of the next kill", || if Instant::now() < moment { Err(String::new()) } else { Ok(()) });
            daemon.kill();
            daemon = place.start(&[]);
            api.moved_to(&daemon.api);
            steady_session.run("insert into witness (note) values ('still here')");
        }
        daemon.until_ready();
        drop(stopping);
        daemon
    });
    println!(
        "{} leases, {} resets, {} keeps",
        done.leases.load(Ordering::Relaxed),
        done.resets.load(Ordering::Relaxed),
        done.keeps.load(Ordering::Relaxed)
    );
    assert!(done.releases.load(Ordering::Relaxed) >= CALLERS, "the callers had too few leases");

    assert_eq!(steady_session.text("select count(*) from witness"), (KILLS + 1).to_string());
    let live = api.get("/v1/leases").expect(200);
    let live = live["leases"].as_array().unwrap();
    assert_eq!(live.len(), 1, "the callers released all their leases, one per key: {live:?}");
    drop(steady_session);
    api.release(&steady);
    api.until_counts(&pool, &json!({"leased": 0, "retiring": 0, "creating": 0, "kept": 0, "blocked": 0, "waiting": 0, "ready": 2, "spare": 2}));

    for (name, before) in foreign.iter().zip(foreign_before) {
        assert_eq!(boss.list(&format!("{identity}'{name}'")), before, "{name} is not ours");
        boss.run(&format!("drop database {name}"));
    }
    let databases = api.get("/v1/databases").expect(200);
    let names = databases["databases"].as_array().unwrap().iter().map(|found| &found["database"]);
    let pools = api.pool(&pool);
    let templates = pools["templates"].as_array().unwrap().iter().map(|found| &found["database"]);
    let mut ours: Vec<_> = names.chain(templates).map(|name| name.as_str().unwrap().to_owned()).collect();
    ours.extend(["pgdibs", "postgres", "template0", "template1"].map(str::to_owned));
    ours.sort();
    assert_eq!(
        boss.list("select datname::text from pg_database"),
        ours,
        "databases on the server, and what is known of"
    );
    let mut catalog = place.superuser("pgdibs");
    until("the logins are those of the rows", || {
        let rows = catalog
            .list("select login from databases union select keep_login from databases where keep_login is not null");
        let logins = boss.list("select rolname::text from pg_roles where rolname like 'pgdibs\\_l\\_%'");
        if rows == logins { Ok(()) } else { Err(format!("rows {rows:?}, logins {logins:?}")) }
    });
    assert_eq!(catalog.text("select count(*) from tickets"), "0");
    drop((boss, catalog));
    daemon.stop();
    place.until_nothing_runs();
}
