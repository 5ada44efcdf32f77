//! `pgdibs psql` with a script as psql that prints its arguments and variables.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::process::pgdibs;
use pgdibs_testing::examples::Example;

use crate::stub::{Reply, Stub, lease};

const SHOWS: &str = "#!/bin/sh\necho \"arguments: $*\"\nenv | grep ^PG\nexit 4\n";

fn databases() -> Stub {
    Stub::start(|received, _| match received.what.as_str() {
        "GET /v1/databases" => Reply::Json(
            200,
            json!({"databases": Example::Database.each(&[json!({"database": "shop_test_gw0", "state": "leased"}), json!({"database": "shop_test_kept_3", "state": "kept"})])}),
        ),
        "POST /v1/databases/shop_test_kept_3/credentials" => Reply::Json(
            200,
            Example::Lease.with(&json!({"url": "postgresql://k:p%40w@127.0.0.1:54321/shop_test_kept_3"})),
        ),
        what if what.starts_with("GET /v1/leases/") => Reply::Json(200, lease(0, "u", 20.0)),
        _ => Reply::Problem(404, "not_found", "no such route", None),
    })
}

fn psql(stub: &Stub, arguments: &[&str]) -> crate::process::Done {
    let program = pgdibs(&[&["psql"], arguments].concat()).with_daemon(&stub.url).with("PGHOSTADDR", "10.9.9.9");
    let script = program.directory.path().join("psql");
    std::fs::write(&script, SHOWS).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    program.with("PGDIBS_PG_BIN_DIR", ".").done()
}

#[test]
fn psql_passes_the_password_only_in_the_environment() {
    let done = psql(&databases(), &["kept_3", "--", "-c", "select 1"]);
    assert_eq!(done.code, Some(4), "{}", done.stderr);
    assert!(done.stdout.starts_with("arguments: -c select 1\n"), "{}", done.stdout);
    for line in ["PGPASSWORD=p@w", "PGUSER=k", "PGDATABASE=shop_test_kept_3", "PGHOST=127.0.0.1", "PGPORT=54321"] {
        assert!(done.stdout.lines().any(|shown| shown == line), "{line} is not in {}", done.stdout);
    }
    assert!(!done.stdout.contains("PGHOSTADDR"), "{}", done.stdout);
}

#[test]
fn psql_opens_a_lease_by_id() {
    let stub = databases();
    let done = psql(&stub, &["0192f000-0000-7000-8000-000000000000"]);
    assert!(done.stdout.contains("PGDATABASE=shop_test_gw0\n"), "{} {}", done.stdout, done.stderr);
    assert_eq!(stub.calls(), ["GET /v1/leases/0192f000-0000-7000-8000-000000000000"]);
}

#[test]
fn missing_psql_is_reported_before_any_call() {
    let stub = databases();
    let done = pgdibs(&["psql", "gw0"]).with_daemon(&stub.url).with("PGDIBS_PG_BIN_DIR", "nowhere").done();
    assert_eq!((done.code, stub.calls().len()), (Some(78), 0), "{}", done.stderr);
}
