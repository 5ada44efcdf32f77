//! Faults of clients: killed, disconnected, slow, too many or mistaken ones, and clock jumps.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pgdibs::Method;
use serde_json::{Value, json};

use pgdibs_testing::end_to_end::program::{Started, timed};
use pgdibs_testing::end_to_end::renewer::Renewer;
use pgdibs_testing::end_to_end::{
    Api, Cluster, Link, Place, Proxy, Session, Stage, StopOnDrop, contents, signal, stage, until,
};

const FULL_AGAIN: Duration = Duration::from_secs(20);

/// Sends a request and does not wait for the answer.
pub(super) fn send(api: &Api, method: &str, path: &str, body: &Value) -> TcpStream {
    let address = api.url().replace("http://", "");
    let body = body.to_string();
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    stream
}

/// `kill -9` of clients that wait, hold a lease, or build. The kernel closes the sockets of a killed client.
pub(super) fn killed_clients() {
    let (stage, daemon) = Stage::set(&[], &[]);
    let url = stage.api.url();
    stage.under_load(|| {
        // A waiting client: its ticket is deleted at once.
        let acquire_request =
            json!({"pool": stage.pool, "fingerprint": "first", "holder": "killed while waiting", "wait_seconds": 60});
        let waiters: Vec<TcpStream> =
            (0..30).map(|_| send(&stage.api, "POST", "/v1/leases", &acquire_request)).collect();
        until("some clients wait", || match stage.api.pool(&stage.pool)["counts"]["waiting"].as_u64() {
            Some(10..) => Ok(()),
            seen => Err(format!("{seen:?}")),
        });
        drop(waiters);
        until("their tickets are deleted and their leases released", || {
            let leases = stage.api.get("/v1/leases").expect(200);
            let theirs = leases["leases"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|lease| lease["holder"] == acquire_request["holder"]);
            let waiting = stage.api.pool(&stage.pool)["counts"]["waiting"].as_u64().unwrap_or(99);
            let theirs = theirs.count();
            if theirs == 0 && waiting <= stage::CALLERS {
                Ok(())
            } else {
                Err(format!("{theirs} leases, {waiting} waiting"))
            }
        });
        // A client with a lease: `pgdibs run`, killed with its command.
        let arguments = ["run", "--pool", &stage.pool, "--fingerprint", "first", "--ttl", "1", "--", "sleep", "60"];
        let mut killed = Started(Some(stage.place.program(&arguments, &[("PGDIBS_URL", &url)]).spawn().unwrap()));
        let holder = until("the client has a lease", || {
            let leases = stage.api.get("/v1/leases").expect(200)["leases"].as_array().unwrap().clone();
            leases.into_iter().find(|lease| lease["ttl_seconds"] == 1).ok_or_else(String::new)
        });
        signal(killed.pid(), Signal::SIGKILL);
        let _ended = killed.0.as_mut().unwrap().wait();
        let (took, ()) = timed(|| {
            until("its lease expires", || {
                let seen = stage.api.get(&format!("/v1/leases/{}", holder["id"].as_str().unwrap())).expect(200);
                if seen["state"] == "expired" { Ok(()) } else { Err(seen.to_string()) }
            });
        });
        assert!(took < Duration::from_secs(10), "a TTL of one second expired after {took:?}");
        // A builder: the next caller becomes the builder.
        let path = format!("/v1/pools/{}/templates/abandoned", stage.pool);
        let build = stage.api.put(&path, &json!({"holder": "killed while building"})).expect(201)["build"].clone();
        let mut builder = Session::open(build["url"].as_str().unwrap());
        builder.run("create table half (n int)");
        stage.catalog().run("update templates set build_heard_at = now() - interval '61 s' where state = 'building'");
        stage.ledger.until_served(10);
        stage.api.put(&path, &json!({"wait_seconds": 0})).expect(202);
        drop(builder);
        stage.catalog().run("update templates set build_heard_at = now() - interval '61 s' where state = 'building'");
        let again = until("another caller becomes the builder", || {
            let answer = stage.api.put(&path, &json!({"wait_seconds": 1}));
            if answer.status == 201 { Ok(answer.body) } else { Err(answer.body.to_string()) }
        });
        let mut next = Session::open(again["build"]["url"].as_str().unwrap());
        assert_eq!(next.text("select to_regclass('half')"), "-", "the next build starts with an empty database");
        drop(next);
        let token = json!({"token": again["build"]["token"], "detail": "seen"});
        assert_eq!(stage.api.post(&format!("{path}/abandon"), &token).status, 204);
        stage.api.post(&format!("{path}/renew"), &json!({"token": build["token"]})).refused(409, "build_token_stale");
    });
    for line in ["event=\"lease_expired\"", "event=\"template_failed\""] {
        assert!(daemon.log().contains(line), "`{line}`: {}", daemon.log());
    }
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// Lost answers: a repeated request has its effect once.
pub(super) fn lost_replies() {
    let (stage, daemon) = Stage::set(&[], &[]);
    let daemons: u16 = stage.api.url().rsplit_once(':').unwrap().1.parse().unwrap();
    let proxy = Proxy::to(daemons);
    let (there, sure) = (Api::new(&format!("http://127.0.0.1:{}", proxy.port())), stage.api.clone());
    // The proxy passes the request, drops the answer, and then cuts the connection.
    let lose = |method: &Method, path: &str, body: &Value| {
        proxy.set(Link::Mute);
        std::thread::scope(|scope| {
            let lost = scope.spawn(|| there.try_call(method.clone(), path, Some(body)));
            // Usually long enough for the daemon's answer; otherwise the cut hits the request.
            std::thread::sleep(Duration::from_millis(300));
            proxy.set(Link::Cut);
            assert!(lost.join().unwrap().is_err(), "an answer passed the proxy");
        });
        proxy.set(Link::Open);
    };
    stage.under_load(|| {
        for number in 0..8 {
            let run = format!("lost-{number}");
            let acquire_request =
                json!({"pool": stage.pool, "fingerprint": "first", "run": run, "worker": "gw0", "wait_seconds": 30});
            lose(&Method::POST, "/v1/leases", &acquire_request);
            let answer = sure.post("/v1/leases", &acquire_request);
            assert!(matches!(answer.status, 200 | 201), "{}", answer.body);
            let lease = answer.body;
            let of_run = sure.get(&format!("/v1/leases?run={run}")).expect(200);
            assert_eq!(of_run["leases"].as_array().unwrap().len(), 1, "two leases for one key: {of_run}");
            let seen = contents::describe(&mut Session::of(&lease), true).unwrap();
            assert!(seen == stage.expected, "{}", contents::difference(&stage.expected, &seen));

            let path = format!("/v1/leases/{}", lease["id"].as_str().unwrap());
            let leave = json!({"generation": 1, "wait_seconds": 30});
            lose(&Method::POST, &format!("{path}/reset"), &leave);
            assert_eq!(
                sure.post(&format!("{path}/reset"), &leave).expect(200)["generation"],
                2,
                "the lease was reset twice"
            );
            lose(&Method::DELETE, &path, &Value::Null);
            assert_eq!(sure.delete(&path).status, 204);
        }
    });
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// Two hundred clients that send single bytes or read nothing do not affect others.
pub(super) fn slow_senders_and_readers() {
    let (stage, daemon) = Stage::set(&[], &[]);
    let address = stage.api.url().replace("http://", "");
    stage.load().during(stage::CALLERS, || {
        let (before, ()) = timed(|| {
            stage.ledger.until_served(40);
        });
        let stop = AtomicBool::new(false);
        let during = std::thread::scope(|scope| {
            let _stopping = StopOnDrop(&stop);
            scope.spawn(|| {
                let connect = |sent: &str| {
                    let mut stream = TcpStream::connect(&address).ok()?;
                    stream.write_all(sent.as_bytes()).ok()?;
                    Some(stream)
                };
                let mut senders: Vec<_> = (0..100).filter_map(|_| connect("POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")).collect();
                let body = "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
                senders.extend((0..50).filter_map(|_| connect(body)));
                // More than a socket buffers: the daemon waits for a peer that reads nothing.
                let documents = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
                let _readers: Vec<_> = (0..50).filter_map(|_| connect(&documents)).collect();
                while !stop.load(Ordering::Relaxed) {
                    for sender in &mut senders {
                        let _closed_by_now = sender.write_all(b"x");
                    }
                    // As slow as possible without a timeout.
                    std::thread::sleep(Duration::from_secs(1));
                }
            });
            let began = Instant::now();
            let mut rounds = Vec::new();
            while began.elapsed() < Duration::from_secs(12) {
                rounds.push(timed(|| stage.ledger.until_served(40)).0);
            }
            // They continue until the daemon closes them.
            until("the daemon has closed all of them", || {
                let open = daemon.open_files();
                if open < 100 { Ok(()) } else { Err(format!("{open} open files")) }
            });
            rounds
        });
        let slowest = during.iter().max().unwrap();
        println!("forty leases took {before:?} without, at most {slowest:?} beside two hundred slow clients");
        assert!(*slowest < before * 4 + Duration::from_secs(2), "{before:?}, then {during:?}");
    });
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// The clocks of the daemon and its server jump by an hour and a year, forwards and backwards. No lease ends early or lasts longer.
///
/// Regression: a clock jump ended builds and kept databases, or kept them for a year (found with libfaketime).
pub(super) fn clock_jumps() {
    let library = std::fs::read_dir("/usr/lib").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path().join("faketime/libfaketime.so.1");
        path.exists().then_some(path)
    });
    let library = library.last().expect("libfaketime is installed: scripts/install-tools.sh faketime");
    let directory = tempfile::Builder::new().prefix("pgd-clock-").tempdir_in("/tmp").unwrap();
    let file = directory.path().join("offset");
    let set = |offset: &str| {
        std::fs::write(&file, offset).unwrap();
    };
    set("+0");
    readable(directory.path());
    let (library, path) = (library.display().to_string(), file.display().to_string());
    let variables = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", path.as_str()),
        ("FAKETIME_NO_CACHE", "1"),
        // The monotonic clock measures the TTL and does not jump.
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    let cluster = Cluster::start_with(&["max_prepared_transactions=10"], &variables);
    let place = Place::on(&cluster.url());
    let (stage, daemon) = Stage::with(cluster, place, &variables, "");
    let mut offsets = Vec::new();
    for offset in ["+3600", "-3600", "+31536000", "-31536000", "+0"] {
        stage.under_load(|| {
            let renewer = Renewer::start(&stage, 2);
            let started = Instant::now();
            let left = stage
                .api
                .lease(&json!({"pool": stage.pool, "fingerprint": "first", "ttl_seconds": 3, "wait_seconds": 30}));
            let (granted, path) = (Instant::now(), format!("/v1/leases/{}", left["id"].as_str().unwrap()));
            let build = format!("/v1/pools/{}/templates/clock{offset}", stage.pool);
            let token = stage.api.put(&build, &json!({})).expect(201)["build"]["token"].clone();
            set(offset);
            offsets.push(stage.cluster.superuser("postgres").text("select extract(year from now())"));
            until("the unrenewed lease expires", || {
                let seen = stage.api.get(&path).expect(200);
                // A builder renews and keeps its build.
                stage.api.post(&format!("{build}/renew"), &json!({"token": token})).expect(200);
                if seen["state"] == "live" {
                    return Err(seen.to_string());
                }
                assert!(
                    started.elapsed() >= Duration::from_secs(3),
                    "{:?} after the acquire: {seen}",
                    started.elapsed()
                );
                Ok(())
            });
            assert!(granted.elapsed() < Duration::from_secs(15), "{:?}", granted.elapsed());
            stage.write_to_held_lease();
            stage.ledger.until_served(20);
            renewer.release();
            let detail = json!({"token": token, "detail": "seen"});
            assert_eq!(stage.api.post(&format!("{build}/abandon"), &detail).status, 204);
        });
    }
    let distinct: std::collections::BTreeSet<_> = offsets.iter().collect();
    assert!(distinct.len() >= 3, "the server's clock did not jump: {offsets:?}");
    assert_eq!(daemon.log().matches("the server's clock was set").count(), 5, "{}", daemon.log());
    stage.audit(&daemon, FULL_AGAIN * 2);
    daemon.stop();
}

fn readable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A hundred test sessions start at the same time on six databases. Each gets a clean one in turn.
///
/// Regression: a hundred concurrent runs on a busy machine got `server_unavailable` (found by this test, beside other tests).
pub(super) fn hundred_runs_at_once() {
    let (stage, daemon) = Stage::set(&[], &[]);
    let (api, pool, expected) = (&stage.api, &stage.pool, &stage.expected);
    std::thread::scope(|scope| {
        for number in 0..100 {
            scope.spawn(move || {
                let run = format!("run-{number}");
                api.put(&format!("/v1/runs/{run}"), &json!({"pool": pool, "fingerprint": "first", "workers": 1}))
                    .expect(200);
                let acquire_request =
                    json!({"pool": pool, "fingerprint": "first", "run": run, "worker": "gw0", "wait_seconds": 120});
                let lease = api.lease(&acquire_request);
                let mut session = Session::of(&lease);
                let seen = contents::describe(&mut session, true).unwrap();
                assert!(&seen == expected, "{}", contents::difference(expected, &seen));
                session.run("insert into witness (note) values ('mine')");
                drop(session);
                assert_eq!(api.delete(&format!("/v1/runs/{run}")).expect(200)["released"], 1);
                api.post("/v1/leases", &acquire_request).refused(410, "run_ended");
            });
        }
    });
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// Unknown, foreign and ended ids cause an error and have no effect.
pub(super) fn wrong_ids() {
    let (stage, daemon) = Stage::set(&[], &[]);
    let body = json!({});
    stage.under_load(|| {
        let ended = stage.api.lease(&json!({"pool": stage.pool, "wait_seconds": 30}));
        stage.api.release(&ended);
        let ended = ended["id"].as_str().unwrap();
        for _ in 0..20 {
            let unknown = uuid::Uuid::now_v7().to_string();
            for (id, status, code) in [(unknown.as_str(), 404, "lease_not_found"), (ended, 410, "lease_ended")] {
                for verb in ["renew", "reset", "keep"] {
                    stage.api.post(&format!("/v1/leases/{id}/{verb}"), &body).refused(status, code);
                }
            }
            stage.api.delete(&format!("/v1/leases/{unknown}")).refused(404, "lease_not_found");
            for odd in ["1", "..", "%00", "'; drop table leases; --", &"9".repeat(500)] {
                let answer = stage.api.call(Method::DELETE, &format!("/v1/leases/{}", odd.replace(' ', "%20")), None);
                assert!(matches!(answer.status, 400 | 404), "{odd}: {}", answer.body);
            }
            let path = format!("/v1/pools/{}/templates/first", stage.pool);
            let stale = stage.api.post(&format!("{path}/seal"), &json!({"token": "unknown"}));
            assert_eq!(stale.status, 409, "{}", stale.body);
            assert_eq!(stage.api.delete(&format!("/v1/runs/{unknown}")).expect(200)["released"], 0);
        }
    });
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// A holder that returns long after its TTL: another lease has its slot and is not affected.
pub(super) fn late_release() {
    let (stage, daemon) = Stage::set(&[], &[]);
    stage.under_load(|| {
        for _ in 0..3 {
            let late = stage.api.lease(&json!({"pool": stage.pool, "fingerprint": "first", "ttl_seconds": 1, "wait_seconds": 30}));
            let path = format!("/v1/leases/{}", late["id"].as_str().unwrap());
            until("its lease expires", || {
                let seen = stage.api.get(&path).expect(200);
                if seen["state"] == "expired" { Ok(()) } else { Err(seen.to_string()) }
            });
            let next = until("another lease has its slot", || {
                let lease = stage.api.lease(&json!({"pool": stage.pool, "fingerprint": "first", "worker": format!("gw{}", late["slot"]), "wait_seconds": 30}));
                if lease["slot"] == late["slot"] {
                    return Ok(lease);
                }
                stage.api.release(&lease);
                Err(lease.to_string())
            });
            let mut session = Session::of(&next);
            session.run("insert into witness (note) values ('mine')");
            for verb in ["renew", "reset", "keep"] {
                stage.api.post(&format!("{path}/{verb}"), &json!({})).refused(410, "lease_ended");
            }
            assert_eq!(stage.api.delete(&path).status, 204, "a repeated release succeeds");
            until("its login is closed", || match Session::try_open(late["url"].as_str().unwrap()) {
                Ok(_) => Err("it opens".to_owned()),
                Err(_) => Ok(()),
            });
            assert_eq!(session.text("select string_agg(note, ' ') from witness"), "mine");
            stage.api.post(&format!("/v1/leases/{}/renew", next["id"].as_str().unwrap()), &json!({})).expect(200);
            stage.api.release(&next);
        }
    });
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}
