//! Configuration that is wrong, and servers that refuse: one sentence, and an exit code.

use crate::support::{Cluster, Daemon, Place};

/// How a daemon that cannot start ends: its exit code and what it said.
#[track_caller]
fn refused(place: &Place, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    match Daemon::try_start(place.program(&["serve"], variables), &place.next_log()) {
        Err((status, said)) => (status.code(), said),
        Ok(mut daemon) => {
            let (status, _) = daemon.ended();
            (status.code(), daemon.log())
        }
    }
}

#[test]
fn wrong_configuration_is_refused_with_the_place_and_the_way_out() {
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
        let (code, said) = refused(&place, &[]);
        assert_eq!(code, Some(78), "{said}");
        for word in words {
            assert!(said.contains(word), "`{word}` is missing: {said}");
        }
    }
    place.write("pgdibs.toml", "");
    let (code, said) = refused(&place, &[("PGDIBS_LISTEN", "0.0.0.0:0")]);
    assert!(code == Some(78) && said.contains("PGDIBS_TOKEN"), "{code:?} {said}");
    let (code, said) = refused(&place, &[("PGDIBS_LINGER_SECONDS", "soon")]);
    assert!(code == Some(78) && said.contains("PGDIBS_LINGER_SECONDS"), "{code:?} {said}");
    let (code, said) = refused(&place, &[("PGDIBS_PG_BIN_DIR", "/nowhere/at/all")]);
    assert!(code.is_some_and(|code| code > 0) && said.contains("/nowhere/at/all"), "{code:?} {said}");
    assert!(!place.data_dir().join("pgdata").exists());
}

#[test]
fn a_server_that_refuses_the_login_is_named_and_asked_again() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url_of("latecomer", "its word", "postgres"));
    let mut daemon = place.start(&[]);
    crate::support::until("the refusal is told", || {
        let answer = daemon.api.call(pgdibs::Method::GET, "/readyz", None);
        let text = answer.body.to_string();
        let told = answer.status == 503 && text.contains("refuses the login") && text.contains("28P01");
        if told { Ok(()) } else { Err(text) }
    });
    daemon.api.get("/livez").expect(200);
    daemon.api.call(pgdibs::Method::GET, "/v1/pools", None).refused(503, "server_unavailable");
    assert!(daemon.log().contains("refuses the login"), "{}", daemon.log());
    cluster.superuser("postgres").run("create role latecomer superuser login password 'its word'");
    daemon.until_ready();
    assert!(!daemon.log().contains("its word"), "a password in the log: {}", daemon.log());
    daemon.stop();
}

#[test]
fn a_server_that_can_never_be_used_is_named() {
    let cluster = Cluster::start(&[]);
    let place = Place::new();
    let (code, said) = refused(&place, &[("PGDIBS_SERVER_URL", "mysql://root@localhost/x")]);
    assert!(code.is_some_and(|code| code > 0) && said.contains("PGDIBS_SERVER_URL"), "{code:?} {said}");

    let mut boss = cluster.superuser("postgres");
    boss.run("create role powerless login password 'none'");
    let (code, said) = refused(&place, &[("PGDIBS_SERVER_URL", &cluster.url_of("powerless", "none", "postgres"))]);
    assert!(code == Some(69) && said.contains("powerless"), "{code:?} {said}");

    // Somebody else's database under the catalog's name is left alone.
    boss.run("create database pgdibs");
    cluster.superuser("pgdibs").run("create table precious (n int)");
    let (code, said) = refused(&place, &[("PGDIBS_SERVER_URL", &cluster.url())]);
    assert!(code == Some(69) && said.contains("\"pgdibs\"") && said.contains("not ours"), "{code:?} {said}");
    assert_eq!(cluster.superuser("pgdibs").text("select count(*) from precious"), "0");
}
