//! A given server that is down, crashes or restarts: waiting requests are answered, leases survive, and the pool recovers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pgdibs::Method;
use serde_json::{Value, json};

use pgdibs_testing::end_to_end::{Api, Cluster, Place, Session, StopOnDrop, pool_name, until};

const SCHEMA: &str = "create table witness (id bigserial primary key, note text)";
const CRASHES: usize = 2;

#[test]
fn daemon_started_before_its_server_waits() {
    let cluster = Cluster::down(&[]);
    let place = Place::on(&cluster.url());
    let mut daemon = place.start(&[]);
    let api = daemon.api.clone();
    until("/readyz reports the wait for the server", || {
        let answer = api.get("/readyz");
        assert_eq!(answer.status, 503);
        let detail = answer.body["reasons"].to_string();
        if detail.contains("waiting for the Postgres server") { Ok(()) } else { Err(detail) }
    });
    assert_eq!(api.get("/livez").status, 200);
    api.post("/v1/leases", &json!({"pool": "some", "wait_seconds": 0})).refused(503, "server_unavailable");
    cluster.start_again();
    daemon.until_ready();
    let pool = pool_name("late");
    api.make_pool(&pool, &json!({"warm": 1, "spares": 0}), SCHEMA);
    api.release(&api.lease(&json!({"pool": pool})));
    assert!(!daemon.log().contains("p@ss") && !daemon.log().contains("p%40ss"), "{}", daemon.log());
    daemon.stop();
}

/// Acquires and releases until `stop`. Every error must be retryable.
fn load(api: &Api, pool: &str, stop: &AtomicBool, served: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let acquire_request = json!({"pool": pool, "wait_seconds": 10, "ttl_seconds": 30});
        let answer = api.call(Method::POST, "/v1/leases", Some(&acquire_request));
        if answer.status != 201 {
            assert_eq!((answer.status, answer.retry_after.is_some()), (503, true), "{}", answer.body);
            continue;
        }
        let lease = answer.body;
        // The server may be down; a database that answers must be clean.
        if let Ok(mut session) = Session::try_open(lease["url"].as_str().unwrap())
            && session.try_run("insert into witness (note) values ('dirt')").is_ok()
            && let Ok(count) = session.try_text("select count(*) from witness")
        {
            assert_eq!(count, "1", "the leased database is not clean: {lease}");
        }
        until("the lease is released", || {
            let id = lease["id"].as_str().unwrap();
            let answer = api.call(Method::DELETE, &format!("/v1/leases/{id}"), None);
            match answer.status {
                204 => Ok(()),
                503 if answer.retry_after.is_some() => Err(answer.body.to_string()),
                status => panic!("{status} {}", answer.body),
            }
        });
        served.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn server_crash_under_load_loses_no_grant() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let mut daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let pool = pool_name("crash");
    api.make_pool(&pool, &json!({"warm": 2, "max": 3, "spares": 1}), SCHEMA);
    let held = api.lease(&json!({"pool": pool, "run": "r", "worker": "gw0"}));
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stopping = StopOnDrop(&stop);
        // More callers than databases, so that some always wait.
        for _ in 0..5 {
            scope.spawn(|| load(&api, &pool, &stop, &served));
        }
        for crash in 0..CRASHES {
            let before = served.load(Ordering::Relaxed);
            until("callers are served", || match served.load(Ordering::Relaxed) - before {
                0..6 => Err(format!("{before} before crash {crash}, not enough since")),
                _ => Ok(()),
            });
            cluster.crash();
            until("/readyz reports the outage", || {
                let answer = api.get("/readyz");
                if answer.status == 503 { Ok(()) } else { Err(answer.body.to_string()) }
            });
            assert_eq!(api.get("/livez").status, 200);
            assert_eq!(api.status()["server"]["reachable"], json!(false));
            cluster.start_again();
            daemon.until_ready();
        }
        let before = served.load(Ordering::Relaxed);
        until("callers are served again", || match served.load(Ordering::Relaxed) - before {
            0..6 => Err("not enough yet".to_owned()),
            _ => Ok(()),
        });
    });
    let id = held["id"].as_str().unwrap();
    let seen = api.get(&format!("/v1/leases/{id}")).expect(200);
    assert_eq!((&seen["state"], &seen["url"]), (&json!("live"), &held["url"]), "the lease survives the crash");
    Session::of(&held).run("insert into witness (note) values ('still mine')");
    let live: Vec<Value> = api.get("/v1/leases").expect(200)["leases"].as_array().unwrap().clone();
    assert_eq!(live.len(), 1, "{live:?}");
    api.release(&held);
    let settled = json!({"leased": 0, "retiring": 0, "creating": 0, "blocked": 0, "waiting": 0, "spare": 1});
    api.until_counts(&pool, &settled);
    daemon.stop();
}

/// The log has one line for the start and one for the end of an outage, however short it is.
///
/// Regression: the log lacked an outage during a fast step and a short outage (found by review).
#[test]
fn short_outage_is_logged() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let pool = pool_name("moment");
    let held = place.path().join("held");
    let armed = format!("return:renamed=hold:{}", held.display());
    let daemon = place.daemon(&[("PGDIBS_TEST_FAILPOINT", &armed)]);
    let api = &daemon.api;
    api.make_pool(&pool, &json!({"warm": 1, "spares": 1}), SCHEMA);
    let full = json!({"ready": 1, "spare": 1, "leased": 0, "retiring": 0, "creating": 0});
    let logged = |times: usize| {
        until("the log has both lines", || {
            let log = daemon.log();
            let counts = ["the server is unreachable", "the server is back"].map(|detail| log.matches(detail).count());
            if counts == [times; 2] { Ok(()) } else { Err(format!("{counts:?} of {times}")) }
        });
    };

    // An outage while the daemon is idle.
    api.until_counts(&pool, &full);
    cluster.crash();
    cluster.start_again();
    logged(1);

    // An outage during a step.
    api.release(&api.lease(&json!({"pool": pool, "wait_seconds": 10})));
    until("the daemon is in the middle of a step", || if held.exists() { Ok(()) } else { Err(String::new()) });
    cluster.crash();
    cluster.start_again();
    std::fs::remove_file(&held).unwrap();
    logged(2);
    api.until_counts(&pool, &full);
    logged(2);
    daemon.stop();
}

/// A restarted container with its data in memory. During the outage, requests get retryable errors, or 404 for lost objects.
///
/// Regression: requests failed with 500 (3D000, 42P01) while the server got its catalog again.
#[test]
fn empty_server_gets_catalog_pools_and_templates_again() {
    let mut cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let pool = pool_name("lost");
    place.write("schema.sql", &format!("{SCHEMA};\n"));
    let settings = "warm = 1\nspares = 0\nmax = 4";
    place.write(
        "pgdibs.toml",
        &format!("[pools.{pool}]\n{settings}\n[pools.{pool}.source]\nsql_file = \"schema.sql\"\n"),
    );
    let daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let held = api.lease(&json!({"pool": pool}));
    let renew = format!("/v1/leases/{}/renew", held["id"].as_str().unwrap());
    let one_pool = format!("/v1/pools/{pool}");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Without it, a panic below would wait for the requests for ever.
        let _stop_requests = StopOnDrop(&stop);
        let requests = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (method, path, body) in [
                    (Method::GET, one_pool.as_str(), None),
                    (Method::GET, "/v1/leases", None),
                    (Method::POST, renew.as_str(), Some(json!({}))),
                ] {
                    let answer = api.call(method, path, body.as_ref());
                    assert!(matches!(answer.status, 200 | 404 | 503), "{path}: {} {}", answer.status, answer.body);
                    assert_eq!(answer.retry_after.is_some(), answer.status == 503, "{path}: {}", answer.body);
                }
            }
        });
        cluster.lose_all_data();
        cluster.start_again();
        let fresh = until("a lease on the server that came back", || {
            let answer = api.call(Method::POST, "/v1/leases", Some(&json!({"pool": pool, "wait_seconds": 1})));
            match answer.status {
                201 => Ok(answer.body),
                404 | 503 => Err(answer.body.to_string()),
                status => panic!("{status} {}", answer.body),
            }
        });
        let mut session = Session::open(fresh["url"].as_str().unwrap());
        assert_eq!(session.text("select count(*) from witness"), "0");
        stop.store(true, Ordering::Relaxed);
        requests.join().unwrap();
    });
    api.post(&renew, &json!({})).refused(404, "lease_not_found");
    daemon.stop();
}
