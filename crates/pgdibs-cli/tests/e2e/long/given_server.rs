//! Servers as others run them: one with a strict `pg_hba.conf` and a socket alone, and one whose image is upgraded.

use serde_json::json;

use pgdibs_testing::end_to_end::{Cluster, Place, Session, pool_name, until};

fn sourced(pool: &str) -> String {
    format!("[pools.{pool}]\nwarm = 1\nspares = 0\nmax = 2\n[pools.{pool}.source]\nsql_dir = \"db\"\n")
}

const BOSS: &str = "local all the-boss scram-sha-256\nhost all the-boss 127.0.0.1/32 scram-sha-256\n";

/// Logins of leases get in through the socket alone, and first not even there.
#[test]
fn socket_alone_serves_builds_and_leases_once_hba_allows_them() {
    let cluster = Cluster::down(&[]);
    cluster.put_file("pg_hba.conf", BOSS.as_bytes());
    cluster.start_again();
    let place = Place::on(&cluster.socket_url());
    let pool = pool_name("socket");
    place.write("db/01.sql", "create table t (n int); insert into t values (7);\n");
    place.write("pgdibs.toml", &sourced(&pool));
    let mut daemon = place.start(&[]);
    let api = daemon.api.clone();
    let line = "local all all scram-sha-256";
    until("/readyz says which line is missing", || {
        let answer = api.try_call(pgdibs::Method::GET, "/readyz", None)?;
        let text = answer.body.to_string();
        if answer.status == 503 && text.contains(line) { Ok(()) } else { Err(text) }
    });
    cluster.put_file("pg_hba.conf", format!("{BOSS}{line}\n").as_bytes());
    cluster.superuser("postgres").run("select pg_reload_conf()");
    let lease = until("a lease", || {
        let answer = api.post("/v1/leases", &json!({"pool": pool, "wait_seconds": 30}));
        if answer.status == 201 { Ok(answer.body) } else { Err(answer.body.to_string()) }
    });
    assert!(lease["host"].as_str().unwrap().starts_with('/'), "{lease}");
    let mut psql = cluster.binaries.command("psql");
    let output = psql.args(["-Atc", "select n from t", lease["url"].as_str().unwrap()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "7\n", "{output:?}");
    daemon.until_ready();
    let logins = "select count(*) from pg_roles where rolname ~ '^pgdibs_l_'";
    let rows = "select count(*) from databases";
    until("no login of a trial is left", || {
        let (logins, rows) = (cluster.superuser("postgres").text(logins), cluster.superuser("pgdibs").text(rows));
        if logins == rows { Ok(()) } else { Err(format!("{logins} logins, {rows} databases")) }
    });
}

/// The image of a server cannot be exchanged here, so the test changes what the old one recorded.
#[test]
fn source_is_built_again_after_upgrade_of_image() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let pool = pool_name("image");
    let (collation, create) = cluster.versioned_collation();
    let table = format!("{create} create table words (word text collate {collation} primary key);\n");
    place.write("db/01.sql", &format!("{table}insert into words values ('b'), ('A'), ('a');\n"));
    place.write("pgdibs.toml", &sourced(&pool));
    let mut daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let before = api.pool(&pool)["templates"][0].clone();
    let template = before["database"].as_str().unwrap();
    let mut boss = cluster.superuser("postgres");
    boss.run(&format!("alter database {template} allow_connections true"));
    cluster
        .superuser(template)
        .run("update pg_collation set collversion = 'of the old image' where collversion is not null");
    boss.run(&format!("alter database {template} allow_connections false"));
    cluster.crash();
    cluster.start_again();
    until("another template is ready", || {
        let answer = api.try_call(pgdibs::Method::GET, &format!("/v1/pools/{pool}"), None)?;
        let templates = answer.body["templates"].as_array().cloned().unwrap_or_default();
        let built = templates.iter().any(|t| t["state"] == "ready" && t["built_at"] != before["built_at"]);
        if built { Ok(()) } else { Err(answer.body.to_string()) }
    });
    daemon.until_ready();
    let lease = api.lease(&json!({"pool": pool, "wait_seconds": 30}));
    let mut session = Session::of(&lease);
    assert_eq!(
        session.text("select string_agg(word, '' order by word) from words"),
        if collation.contains("icu") { "aAb" } else { "Aab" }
    );
    assert!(session.try_run("insert into words values ('A')").is_err(), "its unique index finds it");
}
