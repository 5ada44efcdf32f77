//! Expiry: leases end when they are not renewed for their TTL and have no session.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pgdibs::Method;
use serde_json::{Value, json};

use pgdibs_testing::end_to_end::{Api, Cluster, Place, Session, pool_name, until};

#[track_caller]
fn until_expired(api: &Api, lease: &Value, renewed: &Value) -> Value {
    let path = |lease: &Value| format!("/v1/leases/{}", lease["id"].as_str().unwrap());
    let (path, renewal) = (path(lease), format!("{}/renew", path(renewed)));
    until("the lease expires", || {
        api.post(&renewal, &json!({})).expect(200);
        let seen = api.get(&path).expect(200);
        if seen["state"] == "expired" { Ok(seen) } else { Err(seen.to_string()) }
    })
}

#[test]
fn unrenewed_lease_expires_unless_connected_until_max_ttl() {
    let place = Place::create();
    let daemon = place.daemon(&[("PGDIBS_MAX_TTL_SECONDS", "4")]);
    let api = daemon.api.clone();
    let pool = pool_name("expiry");
    let settings = json!({"warm": 3, "max": 4, "spares": 0});
    api.make_pool(&pool, &settings, "create table witness (note text)");
    api.until_counts(&pool, &json!({"ready": 3}));
    let acquire_request = json!({"pool": pool, "ttl_seconds": 1});
    // Measured from before the grant, so that a slow machine only lengthens the measured time.
    let start = Instant::now();
    let [idle, used, renewed] = [0, 1, 2].map(|_| api.lease(&acquire_request));
    let mut session = Session::of(&used);
    session.run("insert into witness values ('used')");
    let ended = until_expired(&api, &idle, &renewed);
    let took = start.elapsed();
    assert!(took.as_secs_f64() >= 1.0, "the lease expired before its TTL: {took:?}");
    assert!(ended["ended_reason"].as_str().unwrap().contains('1'), "{ended}");
    assert!(ended["ended_at"].is_string() && ended["url"].is_null(), "{ended}");
    let id = idle["id"].as_str().unwrap();
    for verb in ["renew", "reset", "keep"] {
        api.post(&format!("/v1/leases/{id}/{verb}"), &json!({})).refused(410, "lease_ended");
    }
    assert_eq!(api.delete(&format!("/v1/leases/{id}")).status, 204, "a repeated release succeeds");

    // Renewals more often than every second, for longer than the TTL and than max_ttl.
    let path = format!("/v1/leases/{}/renew", renewed["id"].as_str().unwrap());
    until("the unrenewed lease with a session ends at max_ttl", || {
        api.post(&path, &json!({})).expect(200);
        let seen = api.get(&format!("/v1/leases/{}", used["id"].as_str().unwrap())).expect(200);
        if seen["state"] == "expired" { Ok(()) } else { Err(seen.to_string()) }
    });
    let took = start.elapsed();
    assert!(took.as_secs_f64() >= 4.0, "a lease with a session ended after {took:?}");
    until("its session is ended", || if session.try_run("select 1").is_err() { Ok(()) } else { Err(String::new()) });
    assert_eq!(api.get(path.trim_end_matches("/renew")).expect(200)["state"], "live");
    daemon.stop();
}

/// A laptop sleeps while the reconciler waits for an answer of its server.
///
/// Regression: a lease ended when the daemon slept during a snapshot, for longer than the TTL and less than five seconds (found
/// by SIGSTOP under load).
#[test]
fn sleep_during_a_snapshot_expires_no_lease() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let pool = pool_name("asleep");
    api.make_pool(&pool, &json!({"warm": 3, "spares": 0}), "create table witness (note text)");
    api.until_counts(&pool, &json!({"ready": 3}));
    let acquire_request = json!({"pool": pool, "ttl_seconds": 4, "wait_seconds": 10});
    let (mut blocker, mut boss) = (cluster.superuser("pgdibs"), cluster.superuser("postgres"));
    // Stalls are looked for from the first snapshot with a lease on; the database that replaces the leased one shows that there was one.
    let earlier = api.lease(&json!({"pool": pool, "ttl_seconds": 60, "wait_seconds": 10}));
    api.until_counts(&pool, &json!({"ready": 3, "leased": 1}));
    // A lock blocks every read of the catalog; the lease was granted before.
    let lease = api.lease(&acquire_request);
    blocker.run("begin; lock table leases in access exclusive mode");
    let waiting = "select count(*) from pg_stat_activity where application_name = 'pgdibs-reconciler' and wait_event_type = 'Lock'";
    until("the reconciler takes a snapshot", || match boss.text(waiting) {
        count if count == "1" => Ok(()),
        count => Err(count),
    });
    daemon.signal(Signal::SIGSTOP);
    blocker.run("rollback");
    // The tested sleep is longer than the TTL and shorter than a gap between two snapshots.
    std::thread::sleep(Duration::from_millis(4500));
    daemon.signal(Signal::SIGCONT);
    // Each makes the reconciler take another snapshot.
    for _ in 0..2 {
        api.release(&api.lease(&acquire_request));
    }
    api.post(&format!("/v1/leases/{}/renew", lease["id"].as_str().unwrap()), &json!({})).expect(200);
    api.release(&lease);
    api.release(&earlier);
    assert!(daemon.log().contains("this process did not run for"), "{}", daemon.log());
    daemon.stop();
}

/// Renewals cannot be written, or only after the caller has disconnected, as when other clients use all connections.
///
/// Regression: while the server's disk was full, requests failed with 500 (53100) (found with a full disk below the WAL).
///
/// Regression: a request or step whose session the server ended as idle in a transaction (25P03) was reported as a failure, not
/// as retryable (found by the test of clock jumps, on a very busy machine).
///
/// Regression: a renewal whose caller disconnected before it had a connection to the server did not count (found by review).
#[test]
fn unwritten_renewal_counts() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let pool = pool_name("unwritten");
    api.make_pool(&pool, &json!({"warm": 5, "spares": 0}), "create table witness (note text)");
    let acquire_request = json!({"pool": pool, "ttl_seconds": 3, "wait_seconds": 10});
    let [full, ended] = [0, 1].map(|_| api.lease(&json!({"pool": pool, "ttl_seconds": 600, "wait_seconds": 10})));
    let [refused, late] = [0, 1].map(|_| api.lease(&acquire_request));
    let mut catalog = cluster.superuser("pgdibs");
    catalog.run(&format!(
        "create function refuse() returns trigger language plpgsql as $$ begin
           if old.id = '{}' then raise 'could not extend file: No space left on device' using errcode = '53100'; end if;
           if old.id = '{}' then raise 'idle-in-transaction timeout' using errcode = '25P03'; end if;
           if old.id = '{}' then perform pg_sleep(1); end if;
           raise 'sorry, too many clients already' using errcode = '53300';
         end $$;
         create trigger refuse before update on leases for each row when (old.renewals <> new.renewals) execute function refuse()",
        full["id"].as_str().unwrap(),
        ended["id"].as_str().unwrap(),
        late["id"].as_str().unwrap()
    ));
    let impatient = api.with_patience(Duration::from_millis(300));
    let renewal = |lease: &Value| format!("/v1/leases/{}/renew", lease["id"].as_str().unwrap());
    for lease in [&full, &ended] {
        api.post(&renewal(lease), &json!({})).refused(503, "server_unavailable");
    }
    // For longer than two TTLs, measured by unrenewed leases.
    for _ in 0..2 {
        let left = api.lease(&acquire_request);
        until("the unrenewed lease expires", || {
            api.post(&renewal(&refused), &json!({})).refused(503, "server_unavailable");
            assert!(
                impatient.try_call(Method::POST, &renewal(&late), Some(&json!({}))).is_err(),
                "the renewal answered too late"
            );
            let seen = api.get(&format!("/v1/leases/{}", left["id"].as_str().unwrap())).expect(200);
            if seen["state"] == "expired" { Ok(()) } else { Err(seen.to_string()) }
        });
    }
    catalog.run("drop function refuse cascade");
    for lease in [refused, late, full, ended] {
        api.post(&renewal(&lease), &json!({})).expect(200);
        api.release(&lease);
    }
    daemon.stop();
}
