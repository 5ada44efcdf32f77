//! Single calls: requests, retries, messages and exit codes.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use pgdibs_testing::examples::Example;
use serde_json::{Value, json};

use crate::process::pgdibs;
use crate::stub::{Reply, Stub, lease, pools};

fn grants() -> Stub {
    Stub::start(|_, _| Reply::Json(201, lease(0, "u", 20.0)))
}

#[test]
fn lease_prints_url_on_stdout_and_details_on_stderr() {
    let stub = grants();
    let done =
        pgdibs(&["lease", "shop_test", "--ttl", "5", "--wait", "7", "--holder", "me"]).with_daemon(&stub.url).done();
    assert_eq!(done.stdout, "postgresql://u:s3cr3t@127.0.0.1:54321/shop_test_gw0\n");
    assert!(done.stderr.starts_with("pgdibs: leased shop_test_gw0 as 0192f000-"), "{}", done.stderr);
    assert_eq!(done.code, Some(0));
    let body = json!({"pool": "shop_test", "holder": "me", "ttl_seconds": 5, "wait_seconds": 7.0});
    assert_eq!(stub.received()[0].body, body);
}

#[test]
fn via_comes_from_variable_unless_empty() {
    let stub = grants();
    let via = |value: &str| {
        let done = pgdibs(&["lease", "shop_test"]).with("PGDIBS_VIA", value).with_daemon(&stub.url).done();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        stub.received().last().unwrap().body.get("via").cloned()
    };
    assert_eq!(via("network"), Some(json!("network")));
    assert_eq!(via(""), None);
}

#[test]
fn json_output_equals_the_response() {
    let stub = grants();
    let done = pgdibs(&["lease", "shop_test", "--output", "json"]).with_daemon(&stub.url).done();
    assert_eq!(serde_json::from_str::<Value>(&done.stdout).unwrap(), lease(0, "u", 20.0));
    assert_eq!(done.stderr, "");
}

#[test]
fn call_is_retried_while_retry_after_is_set() {
    let stub = Stub::start(|_, before| match before {
        0 => Reply::Problem(503, "template_building", "it is being built", Some(0)),
        1 => Reply::Problem(503, "pool_exhausted", "all are leased", Some(1)),
        _ => Reply::Json(201, lease(0, "u", 20.0)),
    });
    let began = Instant::now();
    let done = pgdibs(&["lease", "shop_test"]).with_daemon(&stub.url).done();
    assert_eq!((done.code, stub.calls().len()), (Some(0), 3), "{}", done.stderr);
    assert!(began.elapsed() >= Duration::from_secs(1), "the call was repeated before Retry-After");
    let waits: Vec<f64> =
        stub.received().iter().map(|received| received.body["wait_seconds"].as_f64().unwrap()).collect();
    assert!(waits[0] == 30.0 && waits[1] < waits[0] && waits[2] <= waits[1] - 1.0, "{waits:?}");
}

#[test]
fn call_without_retry_after_is_not_retried() {
    let stub = Stub::start(|_, _| Reply::Problem(503, "pool_exhausted", "no database of shop_test came free", None));
    let done = pgdibs(&["lease", "shop_test"]).with_daemon(&stub.url).done();
    assert_eq!((done.code, stub.calls().len()), (Some(1), 1));
    assert_eq!(
        done.stderr,
        "pgdibs: no database of shop_test came free\nhint: wait longer with --wait, or raise the limit with `pgdibs pool set POOL --max N`\n"
    );
    assert_eq!(done.stdout, "");
}

#[test]
fn call_is_not_retried_beyond_the_wait() {
    let stub = Stub::start(|_, _| Reply::Problem(503, "server_unavailable", "the server is unavailable", Some(60)));
    let began = Instant::now();
    let done = pgdibs(&["lease", "shop_test", "--wait", "2"]).with_daemon(&stub.url).done();
    assert_eq!((done.code, stub.calls().len()), (Some(1), 1));
    assert!(began.elapsed() < Duration::from_secs(30), "it waited longer than --wait");
}

#[test]
fn missing_daemon_exits_69_with_a_hint() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let done = pgdibs(&["status", "--url", &format!("http://{free}")]).done();
    assert_eq!(done.code, Some(69));
    let sentence = format!("pgdibs: no daemon answers at http://{free} (");
    assert!(
        done.stderr.starts_with(&sentence) && done.stderr.to_lowercase().contains("connection refused"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("\nhint: start one with `pgdibs serve`"), "{}", done.stderr);
}

#[test]
fn other_server_at_the_address_is_reported() {
    let stub = Stub::start(|_, _| Reply::Json(404, json!("nginx")));
    let done = pgdibs(&["status"]).with_daemon(&stub.url).done();
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("something that is not the API of pgdibs (status 404)"), "{}", done.stderr);
}

#[test]
fn wrong_usage_exits_2_and_wrong_configuration_78() {
    let done = pgdibs(&["status", "--wacht"]).done();
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("'--watch'"), "{}", done.stderr);
    let program = pgdibs(&["status"]);
    std::fs::write(program.directory.path().join("pgdibs.toml"), "listen = \n").unwrap();
    let done = program.done();
    assert_eq!(done.code, Some(78), "{}", done.stderr);
    assert!(done.stderr.contains("pgdibs.toml, line 1"), "{}", done.stderr);
    let done = pgdibs(&["status", "--url", "localhost:7432"]).done();
    assert_eq!(done.code, Some(2), "{}", done.stderr);
}

#[test]
fn token_comes_from_environment_or_file() {
    let stub = Stub::start(|_, _| Reply::Json(200, json!({"pools": []})));
    pgdibs(&["pool", "list"]).with_daemon(&stub.url).with("PGDIBS_TOKEN", "t0k").done();
    let program = pgdibs(&["pool", "list"]).with_daemon(&stub.url).with("PGDIBS_TOKEN_FILE", "token");
    std::fs::write(program.directory.path().join("token"), "from-file\n").unwrap();
    program.done();
    pgdibs(&["pool", "list"]).with_daemon(&stub.url).done();
    let tokens: Vec<String> = stub.received().into_iter().map(|received| received.authorization).collect();
    assert_eq!(tokens, ["Bearer t0k", "Bearer from-file", ""]);
}

#[test]
fn loopback_calls_bypass_the_proxy() {
    let stub = grants();
    let mut program = pgdibs(&["lease", "shop_test"]).with_daemon(&stub.url);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        program = program.with(name, "http://127.0.0.1:9");
    }
    let done = program.done();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn closed_stdout_exits_cleanly_and_releases_the_lease() {
    let stub = Stub::start(|received, _| match received.what.as_str() {
        "GET /v1/pools" => Reply::Json(200, pools(&["shop_test"])),
        "POST /v1/leases" => Reply::Json(201, lease(0, "u", 20.0)),
        _ => Reply::Json(204, json!(null)),
    });
    for arguments in [&["pool", "list"][..], &["lease", "shop_test"][..], &["completions", "bash"][..]] {
        let mut program = pgdibs(arguments).with_daemon(&stub.url);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program.command.stdout(writer).output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
    let id = "0192f000-0000-7000-8000-000000000000";
    assert_eq!(stub.calls().last().unwrap(), &format!("DELETE /v1/leases/{id}"));
}

#[test]
fn healthcheck_prints_one_line_and_exits_0_or_1() {
    let stub = Stub::start(|received, _| match received.what.as_str() {
        "GET /livez" => Reply::Json(200, json!({"status": "ok"})),
        _ => Reply::Json(
            503,
            json!({"ready": false, "reasons": ["the server does not answer", "shop_test is not built"]}),
        ),
    });
    let live = pgdibs(&["healthcheck"]).with_daemon(&stub.url).done();
    assert_eq!((live.code, live.stdout), (Some(0), format!("the daemon at {} is live\n", stub.url)));
    let ready = pgdibs(&["healthcheck", "--ready"]).with_daemon(&stub.url).done();
    assert_eq!(
        (ready.code, ready.stderr.as_str()),
        (Some(1), "pgdibs: the server does not answer\nshop_test is not built\n")
    );
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let missing = pgdibs(&["healthcheck"]).with_daemon(&format!("http://{free}")).done();
    assert_eq!(missing.code, Some(1));
}

/// Regression: for up to half a second after a release the kept database still had its slot's name, and the command found none.
#[test]
fn kept_name_is_looked_for_again() {
    let kept = |state: &str, name: &str| Example::Database.with(&json!({"database": name, "state": state}));
    let stub = Stub::start(move |received, before| match (received.what.as_str(), before) {
        ("GET /v1/databases", 0) => Reply::Json(200, json!({"databases": [kept("retiring", "shop_test_gw0")]})),
        ("GET /v1/databases", _) => Reply::Json(200, json!({"databases": [kept("kept", "shop_test_kept_7")]})),
        _ => Reply::Json(204, json!(null)),
    });
    let done = pgdibs(&["release", "kept_7"]).with_daemon(&stub.url).done();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(stub.calls().last().unwrap(), "DELETE /v1/databases/shop_test_kept_7");
}

#[test]
fn lease_argument_accepts_id_or_database() {
    let stub = Stub::start(|received, _| match received.what.as_str() {
        "GET /v1/leases" => Reply::Json(200, json!({"leases": [lease(0, "u", 20.0), lease(1, "v", 20.0)]})),
        what if what.starts_with("DELETE") => Reply::Json(204, json!(null)),
        "GET /v1/leases/0192f000-0000-7000-8000-000000000001" => Reply::Json(200, lease(1, "v", 20.0)),
        _ => Reply::Problem(410, "lease_ended", "the lease was released at noon", None),
    });
    let done = pgdibs(&["release", "gw1"]).with_daemon(&stub.url).done();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let done = pgdibs(&["renew", "shop_test_gw0", "--ttl", "9"]).with_daemon(&stub.url).done();
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.starts_with("pgdibs: the lease was released at noon\nhint: "), "{}", done.stderr);
    let done = pgdibs(&["reset", "gw1", "--wait", "3"]).with_daemon(&stub.url).done();
    assert_eq!(done.code, Some(1));
    let done = pgdibs(&["release", "gw7"]).with_daemon(&stub.url).done();
    assert!(
        done.stderr.starts_with("pgdibs: no live lease holds `gw7`, and no kept database has that name\n"),
        "{}",
        done.stderr
    );
    let received = stub.received();
    let body_of = |what: &str| {
        received
            .iter()
            .find(|received| received.what == what)
            .unwrap_or_else(|| panic!("{what}: {received:?}"))
            .body
            .clone()
    };
    body_of("DELETE /v1/leases/0192f000-0000-7000-8000-000000000001");
    assert_eq!(body_of("POST /v1/leases/0192f000-0000-7000-8000-000000000000/renew"), json!({"ttl_seconds": 9}));
    let reset = body_of("POST /v1/leases/0192f000-0000-7000-8000-000000000001/reset");
    assert_eq!(reset, json!({"wait_seconds": 3.0, "generation": 1}));
}

/// Regression: a kept database could be given up over HTTP only.
#[test]
fn release_drops_a_kept_database() {
    let stub = Stub::start(|received, _| match received.what.as_str() {
        "GET /v1/databases" => {
            let databases = [("shop_test_kept_7", "kept"), ("shop_test_kept_17", "kept"), ("shop_test_gw0", "leased")];
            let databases =
                databases.map(|(database, state)| json!({"database": database, "state": state, "lease": null}));
            Reply::Json(200, json!({"databases": Example::Database.each(&databases)}))
        }
        what if what.starts_with("DELETE /v1/databases/") => Reply::Json(204, json!(null)),
        "GET /v1/leases" => Reply::Json(200, json!({"leases": []})),
        _ => Reply::Problem(404, "not_found", "no such route", None),
    });
    for name in ["shop_test_kept_7", "kept_7"] {
        let done = pgdibs(&["release", name]).with_daemon(&stub.url).done();
        let said = "pgdibs: released the kept database shop_test_kept_7; the daemon drops it\n";
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), said));
        assert_eq!(stub.calls().last().unwrap(), "DELETE /v1/databases/shop_test_kept_7");
    }
    let done = pgdibs(&["release", "kept_8"]).with_daemon(&stub.url).done();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
}

/// Regression: the release of a lease that had ended did nothing, and its kept database stayed (issue 17, G).
#[test]
fn release_of_ended_lease_drops_what_is_kept_for_it() {
    const IDS: [&str; 2] = ["0192f000-0000-7000-8000-000000000001", "0192f000-0000-7000-8000-000000000002"];
    let [ended, live] = IDS;
    let stub = Stub::start(move |received, _| match received.what.as_str() {
        "GET /v1/databases" => {
            let databases = [("shop_test_kept_7", ended), ("shop_test_kept_8", ended), ("shop_test_kept_9", live)];
            let databases =
                databases.map(|(database, lease)| json!({"database": database, "state": "kept", "lease": lease}));
            Reply::Json(200, json!({"databases": Example::Database.each(&databases)}))
        }
        what if what.starts_with("GET /v1/leases/") => {
            let state = if what.ends_with(live) { "live" } else { "released" };
            Reply::Json(200, Example::Lease.with(&json!({"state": state})))
        }
        what if what.starts_with("DELETE /v1/") => Reply::Json(204, json!(null)),
        _ => Reply::Problem(404, "not_found", "no such route", None),
    });
    let deletes = |id| {
        let done = pgdibs(&["release", id]).with_daemon(&stub.url).done();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let deletes = stub.calls().into_iter().filter(|call| call.starts_with("DELETE"));
        (done.stderr, deletes.collect::<Vec<_>>())
    };
    let kept = ["DELETE /v1/databases/shop_test_kept_7", "DELETE /v1/databases/shop_test_kept_8"];
    let (said, called) = deletes(ended);
    assert_eq!(called, kept);
    assert!(said.contains("had ended; released what was kept for it, shop_test_kept_7, shop_test_kept_8"), "{said}");
    let (said, called) = deletes(live);
    assert_eq!(called[2..], [format!("DELETE /v1/leases/{live}")]);
    assert_eq!(said, format!("pgdibs: released {live}\n"));
}

#[test]
fn output_json_makes_errors_and_empty_successes_json() {
    let stub = Stub::start(|received, _| match received.what.as_str() {
        "GET /v1/databases" => Reply::Json(200, json!({"databases": []})),
        "GET /v1/leases" => Reply::Json(200, json!({"leases": []})),
        "GET /v1/pools" => Reply::Json(200, json!({"pools": [{"pool": "p"}]})),
        what if what.starts_with("DELETE") => Reply::Json(204, json!(null)),
        what if what.starts_with("GET /v1/pools/") => Reply::Json(200, Example::Pool.with(&json!({"templates": []}))),
        _ => Reply::Problem(404, "pool_not_found", "there is no pool \"p\"", None),
    });
    let run = |words: &[&str]| pgdibs(&[words, &["--output", "json"]].concat()).with_daemon(&stub.url).done();
    for words in [
        &["release", "0192f000-0000-7000-8000-000000000000"][..],
        &["pool", "drop", "p"],
        &["template", "drop", "p", "f"],
    ] {
        let done = run(words);
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "{}\n", ""), "{words:?}");
    }
    let failure = |words: &[&str]| {
        let done = run(words);
        let error: Value = serde_json::from_str(&done.stderr).unwrap_or_else(|_| panic!("{words:?}: {}", done.stderr));
        assert_eq!(done.stdout, "");
        assert!(error["detail"].is_string(), "{error}");
        (done.code.unwrap(), error)
    };
    let (code, error) = failure(&["lease", "p"]);
    assert_eq!((code, &error["code"], &error["status"]), (1, &json!("pool_not_found"), &json!(404)));
    assert_eq!(error["type"], "urn:pgdibs:problem:pool_not_found");
    let (code, error) = failure(&["release", "gw7"]);
    assert_eq!((code, &error["code"]), (1, &json!("failed")));
    let (code, error) = failure(&["lease"]);
    assert_eq!((code, &error["code"]), (2, &json!("usage")));
    let (code, error) = failure(&["healthcheck", "--url", "http://127.0.0.1:9"]);
    assert_eq!((code, &error["code"]), (1, &json!("daemon_unavailable")));
    // The answer of a daemon of another version.
    let (_, error) = failure(&["pool", "list"]);
    let detail = error["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("cannot parse the daemon's response: missing field") && !detail.contains("at line"),
        "{detail}"
    );
}

/// Regression: `pgdibs healthcheck` on a stopped process waited 30 s, longer than the timeouts of container runtimes.
#[test]
fn healthcheck_gives_up_after_five_seconds() {
    let stub = Stub::start(|_, _| Reply::Never);
    let began = Instant::now();
    let done = pgdibs(&["healthcheck"]).with_daemon(&stub.url).done();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn pool_set_sends_the_login() {
    let stub = Stub::start(|_, _| Reply::Json(201, Example::Pool.with(&json!({"pool": "p", "login": "createdb"}))));
    let done = pgdibs(&["pool", "set", "p", "--login", "createdb"]).with_daemon(&stub.url).done();
    assert!(done.code == Some(0) && done.stdout.ends_with(", login createdb\n"), "{} {}", done.stdout, done.stderr);
    assert_eq!(stub.received()[0].body, json!({"login": "createdb"}));
    let done = pgdibs(&["pool", "set", "p", "--login", "root"]).with_daemon(&stub.url).done();
    assert!(
        done.code == Some(2) && done.stderr.contains("[possible values: plain, createdb, superuser]"),
        "{}",
        done.stderr
    );
}

#[test]
fn stop_ends_no_daemon_but_one_of_this_machine() {
    let program = pgdibs(&["stop", "--url", "http://pgdibs.ci:7432"]);
    let done = program.done();
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(
        done.stderr.contains("a daemon of this machine only\nhint: stop that daemon on its own machine"),
        "{}",
        done.stderr
    );
    let done = pgdibs(&["stop"]).with("PGDIBS_DATA_DIR", "nothing-here").done();
    assert_eq!(done.code, Some(69), "{}", done.stderr);
    assert!(done.stderr.starts_with("pgdibs: no daemon runs on the data directory /"), "{}", done.stderr);
    let server = "postgresql://u@127.0.0.1:9/postgres";
    let done = pgdibs(&["stop"]).with("PGDIBS_SERVER_URL", server).done();
    assert!(done.code == Some(1) && done.stderr.contains("it uses the server of PGDIBS_SERVER_URL"), "{}", done.stderr);
    let stub = Stub::start(|_, _| Reply::Json(200, json!({"status": "ok"})));
    let done = pgdibs(&["stop"]).with("PGDIBS_DATA_DIR", "nothing-here").with_daemon(&stub.url).done();
    let why = format!("the daemon at {} runs on another one, or on a given server (--server-url)", stub.url);
    assert!(done.code == Some(1) && done.stderr.contains(&why), "{}", done.stderr);
}

#[test]
fn config_shows_origins_and_masks_secrets() {
    let program = pgdibs(&["config", "--listen", "127.0.0.1:1"]).with("PGDIBS_TOKEN", "hush-hush");
    std::fs::write(program.directory.path().join("pgdibs.toml"), "disk_floor_mb = 7\n").unwrap();
    let done = program.done();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let line = |name: &str| done.stdout.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("listen ").contains("127.0.0.1:1") && line("listen ").ends_with("flag --listen"), "{}", done.stdout);
    assert!(line("token ").ends_with("environment PGDIBS_TOKEN"), "{}", done.stdout);
    assert!(line("disk_floor_mb ").ends_with("pgdibs.toml line 1"), "{}", done.stdout);
    assert!(!done.stdout.contains("hush-hush"), "{}", done.stdout);
}

/// A daemon from before API levels that does not know these fields.
fn older_daemon(unknown: &'static [(&'static str, &'static str)]) -> Stub {
    Stub::start(move |received, _| {
        let sent = received.body.to_string();
        match unknown.iter().find(|(field, _)| sent.contains(&format!("\"{field}\""))) {
            Some((_, detail)) => Reply::Problem(400, "invalid_request", detail, None),
            None if received.what == "GET /v1/status" => Reply::Json(200, json!({"daemon": {"version": "0.0.9"}})),
            None => Reply::Json(201, lease(0, "u", 20.0)),
        }
    })
}

#[test]
fn older_daemon_gets_lease_request_without_holder() {
    let stub = older_daemon(&[("holder", "holder: unknown field `holder`, expected `pool`")]);
    let done = pgdibs(&["lease", "shop_test", "--wait", "7"]).with_daemon(&stub.url).done();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(stub.received().last().unwrap().body, json!({"pool": "shop_test", "wait_seconds": 7.0}));
}

#[test]
fn older_daemon_without_needed_field_gives_sentence_with_both_versions() {
    let stub = older_daemon(&[("exact_slot", "exact_slot: unknown field `exact_slot`, expected `leases`")]);
    let run = ["run", "--pool", "shop_test", "--workers", "2", "--", "true"];
    let done = pgdibs(&run).with_daemon(&stub.url).done();
    assert_eq!(done.code, Some(1));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        done.stderr,
        format!(
            "pgdibs: pgdibs client {version} (API level {}) talks to pgdibs daemon 0.0.9 (API level 0), which does not know \
             `exact_slot`; upgrade the daemon or leave out `exact_slot`\n",
            pgdibs::api::level::API_LEVEL
        )
    );
}
