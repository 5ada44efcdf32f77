//! `pgdibs run`: environment, exit codes, heartbeat, and the release of leases.

use serde_json::{Value, json};

use crate::process::{Done, pgdibs};
use crate::stub::{LEASED, ReceivedRequest, Reply, Stub, lease, pools};

/// A daemon with one pool that answers acquires with `acquire`.
fn daemon(acquire: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static) -> Stub {
    Stub::start(move |received, _| match received.what.as_str() {
        "GET /livez" => Reply::Json(200, json!({"status": "ok"})),
        "GET /v1/pools" => Reply::Json(200, pools(&["shop_test"])),
        "POST /v1/leases" | "POST /v1/leases/batch" => acquire(received),
        what if what.starts_with("DELETE /v1/runs/") => Reply::Json(200, json!({"released": 1})),
        _ => Reply::Problem(404, "not_found", "no such route", None),
    })
}

fn grants() -> Stub {
    daemon(|_| Reply::Json(201, lease(0, "u", 20.0)))
}

fn run(stub: &Stub, arguments: &[&str]) -> Done {
    pgdibs(&[&["run"], arguments].concat()).with_daemon(&stub.url).done()
}

fn acquired(stub: &Stub) -> Value {
    stub.received()
        .into_iter()
        .find(|received| received.what.starts_with("POST /v1/leases"))
        .expect("no acquire was received")
        .body
}

/// The last call ends the run of the lease.
fn assert_released(stub: &Stub, run: &Value) {
    let calls = stub.calls();
    assert_eq!(calls.last().unwrap(), &format!("DELETE /v1/runs/{}", run.as_str().unwrap()), "{calls:?}");
}

#[test]
fn run_sets_variables_and_returns_the_exit_code() {
    let stub = grants();
    let script = "echo $DATABASE_URL; echo $PGHOST $PGPORT $PGUSER $PGPASSWORD $PGDATABASE; echo $PGDIBS_URL; exit 7";
    let done = run(&stub, &["--holder", "me", "--fingerprint", "f", "--", "sh", "-c", script]);
    assert_eq!(done.code, Some(7), "{}", done.stderr);
    let expected = format!(
        "postgresql://u:s3cr3t@127.0.0.1:54321/shop_test_gw0\n127.0.0.1 54321 u s3cr3t shop_test_gw0\n{}\n",
        stub.url
    );
    assert_eq!((done.stdout, done.stderr.as_str()), (expected, LEASED));
    let acquire_request = acquired(&stub);
    assert_eq!(
        (&acquire_request["pool"], &acquire_request["holder"], &acquire_request["fingerprint"]),
        (&json!("shop_test"), &json!("me"), &json!("f"))
    );
    assert_released(&stub, &acquire_request["run"]);
}

#[test]
fn run_of_signalled_command_exits_128_plus_signal() {
    let stub = grants();
    assert_eq!(run(&stub, &["--", "sh", "-c", "kill -9 $$"]).code, Some(137));
    assert_released(&stub, &acquired(&stub)["run"]);
}

#[test]
fn run_of_missing_command_exits_127_and_releases() {
    let stub = grants();
    let done = run(&stub, &["--", "no-such-command-anywhere"]);
    assert_eq!(done.code, Some(127));
    assert!(
        done.stderr.contains("\npgdibs: there is no command `no-such-command-anywhere`\nhint: "),
        "{}",
        done.stderr
    );
    assert_released(&stub, &acquired(&stub)["run"]);
    assert_eq!(run(&stub, &["--", "/"]).code, Some(126));
}

#[test]
fn run_without_a_lease_reports_and_runs_nothing() {
    let stub = daemon(|_| Reply::Problem(404, "template_not_found", "shop_test has no ready template", None));
    let done = run(&stub, &["--", "echo", "never"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    assert!(done.stderr.contains("shop_test has no ready template\nhint: "), "{}", done.stderr);
    assert_released(&stub, &acquired(&stub)["run"]);
}

#[test]
fn run_with_several_pools_requires_a_pool() {
    let stub = Stub::start(|received, _| match received.what.as_str() {
        "GET /v1/pools" => Reply::Json(200, pools(&["a_test", "b_test"])),
        _ => Reply::Json(200, json!({})),
    });
    let done = run(&stub, &["--", "true"]);
    assert_eq!(done.code, Some(2));
    assert_eq!(done.stderr, "pgdibs: there are several pools: a_test, b_test\nhint: name one with --pool\n");
    let stub = Stub::start(|_, _| Reply::Json(200, json!({"pools": []})));
    let done = run(&stub, &["--", "true"]);
    assert!(done.code == Some(1) && done.stderr.starts_with("pgdibs: the daemon has no pool yet\n"), "{}", done.stderr);
}

#[test]
fn run_starts_no_daemon_when_given_a_url() {
    let done = pgdibs(&["run", "--url", "http://127.0.0.1:9", "--", "echo", "never"]).done();
    assert_eq!((done.code, done.stdout.as_str()), (Some(69), ""), "{}", done.stderr);
}

#[test]
fn workers_share_one_login_and_the_base_name() {
    let stub = daemon(|_| Reply::Json(201, json!({"leases": [lease(0, "u", 20.0), lease(1, "u", 20.0)]})));
    let done = run(&stub, &["--workers", "2", "--", "sh", "-c", "echo $DATABASE_URL $PGDATABASE"]);
    assert_eq!(done.stdout, "postgresql://u:s3cr3t@127.0.0.1:54321/shop_test shop_test_gw0\n", "{}", done.stderr);
    let batch = acquired(&stub);
    assert_eq!((&batch["shared_login"], &batch["exact_slot"]), (&json!(true), &json!(true)));
    assert_eq!((&batch["leases"][0]["worker"], &batch["leases"][1]["worker"]), (&json!("gw0"), &json!("gw1")));
    assert_released(&stub, &batch["leases"][0]["run"]);
}

#[test]
fn workers_without_all_slots_are_not_started() {
    let stub = daemon(|_| Reply::Json(201, json!({"leases": [lease(0, "u", 20.0), lease(2, "u", 20.0)]})));
    let done = run(&stub, &["--workers", "2", "--", "echo", "never"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    assert!(
        done.stderr.starts_with("pgdibs: the daemon did not grant gw0 to gw1 under one login\n"),
        "{}",
        done.stderr
    );
    assert_released(&stub, &acquired(&stub)["leases"][0]["run"]);
}

const RENEW: &str = "POST /v1/leases/0192f000-0000-7000-8000-000000000000/renew";

/// A lease with a renewal interval of 50 ms; `renew` answers the renewals, given their number so far.
fn renewed_by(renew: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Stub {
    Stub::start(move |received, before| match received.what.as_str() {
        RENEW => renew(before),
        "POST /v1/leases" => Reply::Json(201, lease(0, "u", 0.05)),
        _ => Reply::Json(200, pools(&["shop_test"])),
    })
}

#[test]
fn run_renews_at_the_given_interval_after_failures() {
    let stub = renewed_by(|before| match before {
        1 => Reply::Problem(503, "server_unavailable", "the server is unavailable", Some(1)),
        _ => Reply::Json(200, lease(0, "u", 0.05)),
    });
    let running = pgdibs(&["run", "--", "sh", "-c", "read line; exit 5"]).with_daemon(&stub.url).start();
    stub.wait_for(RENEW, 5);
    let done = running.done();
    assert_eq!(done.code, Some(5));
    assert!(done.stderr.contains("could not be renewed, trying again: the server is unavailable\n"), "{}", done.stderr);
    assert!(done.stderr.contains("the lease of shop_test_gw0 is renewed again\n"), "{}", done.stderr);
    assert_released(&stub, &acquired(&stub)["run"]);
}

#[test]
fn ended_lease_is_reported_once_and_command_continues() {
    let stub = renewed_by(|_| Reply::Problem(410, "lease_ended", "the lease was revoked", None));
    let mut running = pgdibs(&["run", "--", "sh", "-c", "echo on; read line; exit 5"]).with_daemon(&stub.url).start();
    running.wait_for_error("the lease was revoked");
    running.wait_for_line("on");
    let done = running.done();
    assert_eq!(done.code, Some(5));
    let over = "pgdibs: the lease of shop_test_gw0 is over while its command still runs: the lease was revoked\n";
    assert_eq!(done.stderr, format!("{LEASED}{over}"));
    assert_eq!(stub.calls().iter().filter(|call| *call == RENEW).count(), 1);
}

const PRINT_VARIABLES: &str =
    "echo $SHOP_URL; echo $PGDIBS_EXPORTED; echo ${PGHOSTADDR-none} ${PGSERVICE-none} ${PGSERVICEFILE-none}";

/// A command that prints its variables, in an environment with variables that refer to other databases.
fn run_with_other_variables(stub: &Stub, arguments: &[&str]) -> Done {
    let arguments = [&["run"], arguments, &["--", "sh", "-c", PRINT_VARIABLES]].concat();
    let program =
        pgdibs(&arguments).with_daemon(&stub.url).with("DATABASE_URL", "postgresql+asyncpg://dev:hush@dev/shop");
    let program = program.with("SHOP_URL", "postgresql+psycopg://dev:hush@dev/shop").with("CACHE_URL", "redis://dev/0");
    let program = program.with("REPORTS", "host=dev dbname=reports password=hush").with("PGHOSTADDR", "10.9.9.9");
    program.with("PGSERVICE", "dev").with("PGSERVICEFILE", "/dev-services").with("PGOPTIONS", "-c jit=off").done()
}

const SET: &str = "DATABASE_URL,PGHOST,PGPORT,PGUSER,PGPASSWORD,PGDATABASE";

#[test]
fn run_warns_of_variables_with_other_databases() {
    let stub = grants();
    let done = run_with_other_variables(&stub, &["--output", "json"]);
    assert_eq!(
        done.stderr,
        "pgdibs: warning: the command inherits variables that lead to databases it has not leased: REPORTS, SHOP_URL; --env NAME sets \
         one to the lease, --keep-env NAME leaves it as it is without this warning\n"
    );
    let shown = format!("postgresql+psycopg://dev:hush@dev/shop\n{SET},PGDIBS_URL\nnone none none\n");
    assert_eq!((done.code, done.stdout), (Some(0), shown));
}

#[test]
fn run_does_not_warn_of_set_or_kept_variables() {
    let stub = grants();
    let kept = ["--env", "SHOP_URL", "--keep-env", "REPORTS", "--keep-env", "PGSERVICEFILE", "--keep-env", "NOT_THERE"];
    let done = run_with_other_variables(&stub, &kept);
    let url = "postgresql+psycopg://u:s3cr3t@127.0.0.1:54321/shop_test_gw0";
    let shown = format!("{url}\n{SET},SHOP_URL,PGDIBS_URL\nnone none /dev-services\n");
    assert_eq!((done.code, done.stdout, done.stderr.as_str()), (Some(0), shown, LEASED));
}

#[test]
fn keep_env_of_a_set_variable_is_rejected_first() {
    let stub = grants();
    let done = run_with_other_variables(&stub, &["--keep-env", "DATABASE_URL"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
    assert!(
        done.stderr.starts_with("pgdibs: --keep-env DATABASE_URL: pgdibs run sets this variable"),
        "{}",
        done.stderr
    );
    let done = run_with_other_variables(&stub, &["--keep-env", "A=b"]);
    assert!(done.code == Some(2) && done.stderr.contains("write the name alone"), "{}", done.stderr);
    assert_eq!(stub.calls(), Vec::<String>::new());
}

#[test]
fn nested_run_lists_variables_of_both_runs() {
    let stub = grants();
    let program = env!("CARGO_BIN_EXE_pgdibs");
    let inner = format!("{program} run --env B -- sh -c 'echo $PGDIBS_EXPORTED'");
    let done = run(&stub, &["--env", "A", "--", "sh", "-c", &inner]);
    assert_eq!(done.stdout, format!("{SET},A,PGDIBS_URL,B\n"), "{}", done.stderr);
    // A refers to the database of the outer run, all other variables to that of the inner run.
    assert_eq!(done.stderr.matches("has not leased: A; ").count(), 1, "{}", done.stderr);
}
