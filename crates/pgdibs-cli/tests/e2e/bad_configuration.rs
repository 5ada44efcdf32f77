//! Wrong configuration and unusable servers: one error message and an exit code.

use pgdibs_testing::end_to_end::{Cluster, Daemon, Place};

/// The exit code and the output of a daemon that cannot start.
#[track_caller]
fn refused(place: &Place, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    match Daemon::try_start(place.program(&["serve"], variables), &place.next_log()) {
        Err((status, output)) => (status.code(), output),
        Ok(mut daemon) => {
            let (status, _) = daemon.ended();
            (status.code(), daemon.log())
        }
    }
}

#[test]
fn wrong_configuration_is_rejected_with_place_and_hint() {
    let place = Place::new();
    let cases: [(&str, &[&str]); 6] = [
        ("listen = \"127.0.0.1:0\"\n[pools.shop\nwarm = 1\n", &["pgdibs.toml", "line 2"]),
        ("listn = \"127.0.0.1:0\"\n", &["listn", "listen", "line 1"]),
        ("[pools.shop]\nwarm = \"four\"\n", &["pools.shop.warm", "line 2"]),
        ("[pools.\"Shop-Test\"]\n", &["Shop-Test", "a to z"]),
        ("[pools.shop.source]\nsql_dir = \"a\"\nsql_file = \"b\"\n", &["sql_dir", "sql_file"]),
        (
            "[pools.shop.source]\ncommand = \"alembic upgrade head\"\n",
            &["command", "\"alembic\", \"upgrade\", \"head\""],
        ),
    ];
    for (text, words) in cases {
        place.write("pgdibs.toml", text);
        let (code, output) = refused(&place, &[]);
        assert_eq!(code, Some(78), "{output}");
        for word in words {
            assert!(output.contains(word), "`{word}` is missing: {output}");
        }
    }
    place.write("pgdibs.toml", "");
    let (code, output) = refused(&place, &[("PGDIBS_LISTEN", "0.0.0.0:0")]);
    assert!(code == Some(78) && output.contains("PGDIBS_TOKEN"), "{code:?} {output}");
    let (code, output) = refused(&place, &[("PGDIBS_LINGER_SECONDS", "soon")]);
    assert!(code == Some(78) && output.contains("PGDIBS_LINGER_SECONDS"), "{code:?} {output}");
    let (code, output) = refused(&place, &[("PGDIBS_PG_BIN_DIR", "/nowhere/at/all")]);
    assert!(code.is_some_and(|code| code > 0) && output.contains("/nowhere/at/all"), "{code:?} {output}");
    assert!(!place.data_dir().join("pgdata").exists());
}

#[test]
fn rejected_login_is_reported_and_retried() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url_of("latecomer", "its word", "postgres"));
    let mut daemon = place.start(&[]);
    pgdibs_testing::end_to_end::until("/readyz reports the rejected login", || {
        let answer = daemon.api.call(pgdibs::Method::GET, "/readyz", None);
        let text = answer.body.to_string();
        let reported = answer.status == 503 && text.contains("refuses the login") && text.contains("28P01");
        if reported { Ok(()) } else { Err(text) }
    });
    daemon.api.get("/livez").expect(200);
    daemon.api.call(pgdibs::Method::GET, "/v1/pools", None).refused(503, "server_unavailable");
    assert!(daemon.log().contains("refuses the login"), "{}", daemon.log());
    cluster.superuser("postgres").run("create role latecomer superuser login password 'its word'");
    daemon.until_ready();
    assert!(!daemon.log().contains("its word"), "the log contains a password: {}", daemon.log());
    daemon.stop();
}

#[test]
fn unusable_server_is_reported_and_exits() {
    let cluster = Cluster::start(&[]);
    let place = Place::new();
    let (code, output) = refused(&place, &[("PGDIBS_SERVER_URL", "mysql://root@localhost/x")]);
    assert!(code.is_some_and(|code| code > 0) && output.contains("PGDIBS_SERVER_URL"), "{code:?} {output}");

    let mut boss = cluster.superuser("postgres");
    boss.run("create role powerless login password 'none'");
    let (code, output) = refused(&place, &[("PGDIBS_SERVER_URL", &cluster.url_of("powerless", "none", "postgres"))]);
    assert!(code == Some(69) && output.contains("powerless"), "{code:?} {output}");

    // A foreign database with the catalog's name is left alone.
    boss.run("create database pgdibs");
    cluster.superuser("pgdibs").run("create table precious (n int)");
    let (code, output) = refused(&place, &[("PGDIBS_SERVER_URL", &cluster.url())]);
    assert!(code == Some(69) && output.contains("\"pgdibs\"") && output.contains("not ours"), "{code:?} {output}");
    assert_eq!(cluster.superuser("pgdibs").text("select count(*) from precious"), "0");
}
