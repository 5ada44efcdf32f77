//! `pgdibs run`: its environment, its exit codes, its heartbeat, and that everything is given back.

use serde_json::{Value, json};

use crate::process::{Done, pgdibs};
use crate::stub::{ReceivedRequest, Reply, Stub, lease, pools};

/// A daemon with one pool that grants what `acquire` says.
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
        .expect("nothing was leased")
        .body
}

/// The run that the lease was taken for is the one that was ended, last of all.
fn assert_given_back(stub: &Stub, run: &Value) {
    let calls = stub.calls();
    assert_eq!(calls.last().unwrap(), &format!("DELETE /v1/runs/{}", run.as_str().unwrap()), "{calls:?}");
}

#[test]
fn the_command_finds_its_database_and_its_code_is_ours() {
    let stub = grants();
    let script = "echo $DATABASE_URL; echo $PGHOST $PGPORT $PGUSER $PGPASSWORD $PGDATABASE; echo $PGDIBS_URL; exit 7";
    let done = run(&stub, &["--holder", "me", "--fingerprint", "f", "--", "sh", "-c", script]);
    assert_eq!(done.code, Some(7), "{}", done.stderr);
    let expected = format!(
        "postgresql://u:s3cr3t@127.0.0.1:54321/shop_test_gw0\n127.0.0.1 54321 u s3cr3t shop_test_gw0\n{}\n",
        stub.url
    );
    assert_eq!((done.stdout, done.stderr.as_str()), (expected, ""));
    let acquire_request = acquired(&stub);
    assert_eq!(
        (&acquire_request["pool"], &acquire_request["holder"], &acquire_request["fingerprint"]),
        (&json!("shop_test"), &json!("me"), &json!("f"))
    );
    assert_given_back(&stub, &acquire_request["run"]);
}

#[test]
fn a_command_that_a_signal_ended_gives_128_and_its_number() {
    let stub = grants();
    assert_eq!(run(&stub, &["--", "sh", "-c", "kill -9 $$"]).code, Some(137));
    assert_given_back(&stub, &acquired(&stub)["run"]);
}

#[test]
fn a_command_that_is_not_there_gives_127_and_the_lease_back() {
    let stub = grants();
    let done = run(&stub, &["--", "no-such-command-anywhere"]);
    assert_eq!(done.code, Some(127));
    assert!(
        done.stderr.starts_with("pgdibs: there is no command `no-such-command-anywhere`\nhint: "),
        "{}",
        done.stderr
    );
    assert_given_back(&stub, &acquired(&stub)["run"]);
    assert_eq!(run(&stub, &["--", "/"]).code, Some(126));
}

#[test]
fn a_refusal_is_told_and_nothing_is_run() {
    let stub = daemon(|_| Reply::Problem(404, "template_not_found", "shop_test has no ready template", None));
    let done = run(&stub, &["--", "echo", "never"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    assert!(done.stderr.contains("shop_test has no ready template\nhint: "), "{}", done.stderr);
    assert_given_back(&stub, &acquired(&stub)["run"]);
}

#[test]
fn the_pool_must_be_named_when_there_are_several() {
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
fn a_daemon_that_was_named_and_is_away_is_not_replaced() {
    let done = pgdibs(&["run", "--url", "http://127.0.0.1:9", "--", "echo", "never"]).done();
    assert_eq!((done.code, done.stdout.as_str()), (Some(69), ""), "{}", done.stderr);
}

#[test]
fn workers_hold_their_slots_under_one_login_and_see_the_base_name() {
    let stub = daemon(|_| Reply::Json(201, json!({"leases": [lease(0, "u", 20.0), lease(1, "u", 20.0)]})));
    let done = run(&stub, &["--workers", "2", "--", "sh", "-c", "echo $DATABASE_URL $PGDATABASE"]);
    assert_eq!(done.stdout, "postgresql://u:s3cr3t@127.0.0.1:54321/shop_test shop_test_gw0\n", "{}", done.stderr);
    let batch = acquired(&stub);
    assert_eq!((&batch["shared_login"], &batch["exact_slot"]), (&json!(true), &json!(true)));
    assert_eq!((&batch["leases"][0]["worker"], &batch["leases"][1]["worker"]), (&json!("gw0"), &json!("gw1")));
    assert_given_back(&stub, &batch["leases"][0]["run"]);
}

#[test]
fn workers_that_would_meet_others_are_not_started() {
    let stub = daemon(|_| Reply::Json(201, json!({"leases": [lease(0, "u", 20.0), lease(2, "u", 20.0)]})));
    let done = run(&stub, &["--workers", "2", "--", "echo", "never"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    assert!(
        done.stderr.starts_with("pgdibs: the daemon did not grant gw0 to gw1 under one login\n"),
        "{}",
        done.stderr
    );
    assert_given_back(&stub, &acquired(&stub)["leases"][0]["run"]);
}

const RENEW: &str = "POST /v1/leases/0192f000-0000-7000-8000-000000000000/renew";

/// A lease that is to be renewed every 50 ms; the renewals are answered by `renew`, given how many came before.
fn renewed_by(renew: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Stub {
    Stub::start(move |received, before| match received.what.as_str() {
        RENEW => renew(before),
        "POST /v1/leases" => Reply::Json(201, lease(0, "u", 0.05)),
        _ => Reply::Json(200, pools(&["shop_test"])),
    })
}

#[test]
fn the_lease_is_renewed_as_often_as_the_daemon_says_also_after_a_failure() {
    let stub = renewed_by(|before| match before {
        1 => Reply::Problem(503, "server_unavailable", "the server is away", Some(1)),
        _ => Reply::Json(200, lease(0, "u", 0.05)),
    });
    let running = pgdibs(&["run", "--", "sh", "-c", "read line; exit 5"]).with_daemon(&stub.url).start();
    stub.wait_for(RENEW, 5);
    let done = running.done();
    assert_eq!(done.code, Some(5));
    assert!(done.stderr.contains("could not be renewed, trying again: the server is away\n"), "{}", done.stderr);
    assert!(done.stderr.contains("the lease of shop_test_gw0 is renewed again\n"), "{}", done.stderr);
    assert_given_back(&stub, &acquired(&stub)["run"]);
}

#[test]
fn a_lease_that_is_over_is_told_once_and_the_command_goes_on() {
    let stub = renewed_by(|_| Reply::Problem(410, "lease_ended", "the lease was revoked", None));
    let mut running = pgdibs(&["run", "--", "sh", "-c", "echo on; read line; exit 5"]).with_daemon(&stub.url).start();
    running.wait_for_error("the lease was revoked");
    running.wait_for_line("on");
    let done = running.done();
    assert_eq!(done.code, Some(5));
    assert_eq!(
        done.stderr,
        "pgdibs: the lease of shop_test_gw0 is over while its command still runs: the lease was revoked\n"
    );
    assert_eq!(stub.calls().iter().filter(|call| *call == RENEW).count(), 1);
}

const SHOWS: &str =
    "echo $SHOP_URL; echo $PGDIBS_EXPORTED; echo ${PGHOSTADDR-none} ${PGSERVICE-none} ${PGSERVICEFILE-none}";

/// A command that shows what it got, in a shell where several variables lead to other databases.
fn run_among_others(stub: &Stub, arguments: &[&str]) -> Done {
    let arguments = [&["run"], arguments, &["--", "sh", "-c", SHOWS]].concat();
    let program =
        pgdibs(&arguments).with_daemon(&stub.url).with("DATABASE_URL", "postgresql+asyncpg://dev:hush@dev/shop");
    let program = program.with("SHOP_URL", "postgresql+psycopg://dev:hush@dev/shop").with("CACHE_URL", "redis://dev/0");
    let program = program.with("REPORTS", "host=dev dbname=reports password=hush").with("PGHOSTADDR", "10.9.9.9");
    program.with("PGSERVICE", "dev").with("PGSERVICEFILE", "/dev-services").with("PGOPTIONS", "-c jit=off").done()
}

const SET: &str = "DATABASE_URL,PGHOST,PGPORT,PGUSER,PGPASSWORD,PGDATABASE";

#[test]
fn variables_that_lead_to_other_databases_are_listed_in_one_line() {
    let stub = grants();
    let done = run_among_others(&stub, &["--output", "json"]);
    assert_eq!(
        done.stderr,
        "pgdibs: warning: the command inherits variables that lead to databases it has not leased: REPORTS, SHOP_URL; --env NAME sets \
         one to the lease, --keep-env NAME leaves it as it is without this warning\n"
    );
    let shown = format!("postgresql+psycopg://dev:hush@dev/shop\n{SET},PGDIBS_URL\nnone none none\n");
    assert_eq!((done.code, done.stdout), (Some(0), shown));
}

#[test]
fn set_and_kept_variables_are_not_warned_about() {
    let stub = grants();
    let kept = ["--env", "SHOP_URL", "--keep-env", "REPORTS", "--keep-env", "PGSERVICEFILE", "--keep-env", "NOT_THERE"];
    let done = run_among_others(&stub, &kept);
    let url = "postgresql+psycopg://u:s3cr3t@127.0.0.1:54321/shop_test_gw0";
    let shown = format!("{url}\n{SET},SHOP_URL,PGDIBS_URL\nnone none /dev-services\n");
    assert_eq!((done.code, done.stdout, done.stderr.as_str()), (Some(0), shown, ""));
}

#[test]
fn keeping_what_is_set_is_refused_before_anything_is_leased() {
    let stub = grants();
    let done = run_among_others(&stub, &["--keep-env", "DATABASE_URL"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
    assert!(
        done.stderr.starts_with("pgdibs: --keep-env DATABASE_URL: pgdibs run sets this variable"),
        "{}",
        done.stderr
    );
    let done = run_among_others(&stub, &["--keep-env", "A=b"]);
    assert!(done.code == Some(2) && done.stderr.contains("write the name alone"), "{}", done.stderr);
    assert_eq!(stub.calls(), Vec::<String>::new());
}

#[test]
fn nested_run_lists_what_both_have_set_and_warns_about_the_rest() {
    let stub = grants();
    let program = env!("CARGO_BIN_EXE_pgdibs");
    let inner = format!("{program} run --env B -- sh -c 'echo $PGDIBS_EXPORTED'");
    let done = run(&stub, &["--env", "A", "--", "sh", "-c", &inner]);
    assert_eq!(done.stdout, format!("{SET},A,PGDIBS_URL,B\n"), "{}", done.stderr);
    // A leads to the database of the outer run, while everything else leads to that of the inner one.
    assert_eq!(done.stderr.matches("has not leased: A; ").count(), 1, "{}", done.stderr);
}
