//! `pgdibs doctor` as a user runs it, and the findings of a daemon.

use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use pgdibs_testing::end_to_end::program::{Started, run, timed};
use pgdibs_testing::end_to_end::{Cluster, Place, signal, until};

fn findings<'a>(report: &'a Value, check: &str) -> Vec<&'a Value> {
    report["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check).collect()
}

#[test]
fn doctor_names_environment_and_server_in_its_report() {
    let cluster = Cluster::start(&["fsync=on"]);
    let (url, place) = (cluster.url(), Place::create());
    // Programs of an old installation, without psql.
    for name in ["pg_dump", "pg_restore"] {
        let file = format!("bin/{name}");
        place.write(&file, &format!("#!/bin/sh\necho '{name} (PostgreSQL) 9.6.24'\n"));
        std::fs::set_permissions(place.path().join(&file), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let old = place.path().join("bin").display().to_string();
    let variables = [
        ("PGDIBS_PG_BIN_DIR", old.as_str()),
        ("DATABASE_URL", "postgresql://u:secret@db/app"),
        ("TEST_DATABASE_URL", "postgresql://u:secret@db/app_test"),
    ];
    let doctor = |variables: &[(&str, &str)], output: &[&str]| {
        let arguments = [&["doctor"], output].concat();
        // Other users can read flags.
        let variables = [variables, &[("PGDIBS_SERVER_URL", &url)]].concat();
        run(place.program(&arguments, &variables))
    };
    let (took, bad) = timed(|| doctor(&variables, &["--output", "json"]));
    println!("the doctor took {took:?}");
    assert_eq!(bad.code, Some(3), "{bad:?}");
    let report: Value = serde_json::from_str(&bad.stdout).unwrap();
    let programs: Vec<&str> =
        findings(&report, "programs").iter().map(|finding| finding["text"].as_str().unwrap()).collect();
    let major = cluster.binaries.major;
    let old = |name: &str| {
        format!("{name} in {} is of version 9, older than the server's {major}", place.path().join("bin").display())
    };
    assert!(
        programs.len() == 3 && programs[0].starts_with(&old("pg_dump")) && programs[1].starts_with(&old("pg_restore")),
        "{programs:?}"
    );
    assert!(programs[2].starts_with("psql is not in "), "{programs:?}");
    assert_eq!(findings(&report, "variables").len(), 1, "{report:#}");
    assert!(findings(&report, "fsync")[0]["cost"].as_str().unwrap().contains("ms here"), "{report:#}");
    assert!(!bad.stdout.contains("secret"));

    let good = doctor(&[], &[]);
    assert_eq!(good.code, Some(3), "fsync is on: {good:?}");
    assert!(
        good.stdout.contains("warning: fsync = on") && good.stdout.contains("; run: alter system set fsync = 'off'"),
        "{good:?}"
    );
    assert!(
        good.stdout.contains("not seen: connections, locks, daemons, runs, reflink: no daemon has served"),
        "{good:?}"
    );
    assert!(!good.stdout.contains("variables") && !good.stdout.contains("pg_dump"), "{good:?}");

    // An interrupted one drops what it made.
    let interrupted = Started(Some(place.program(&["doctor"], &[("PGDIBS_SERVER_URL", &url)]).spawn().unwrap()));
    let mut superuser = cluster.superuser("postgres");
    until("the doctor measures", || {
        let made = superuser.text("select count(*) from pg_database where datname like 'pgdibs_doctor_%'");
        if made == "1" { Ok(()) } else { Err(made) }
    });
    signal(interrupted.pid(), Signal::SIGINT);
    let interrupted = interrupted.done();
    assert!([Some(130), Some(3)].contains(&interrupted.code), "{interrupted:?}");
    assert_eq!(superuser.text("select count(*) from pg_database where datname like 'pgdibs_doctor_%'"), "0");

    // A daemon says the same at its start, and in its status; then the server goes away.
    let served = Place::on(&url);
    let daemon = served.daemon(&[]);
    let lines = daemon.log().lines().filter(|line| line.contains("WARN") && line.contains("fsync = on, where")).count();
    assert_eq!(lines, 1, "{}", daemon.log());
    let status = daemon.api.status();
    let fsync = findings(&status, "fsync")[0];
    assert_eq!(fsync["severity"], json!("warning"));
    assert!(fsync["title"].as_str().unwrap().starts_with("fsync = on, where a server for tests wants off"), "{fsync}");
    assert_eq!(fsync["fix"], json!("alter system set fsync = 'off'; select pg_reload_conf()"));
    let shown = run(served.program(&["status"], &[("PGDIBS_URL", daemon.api.url().as_str())])).well();
    assert!(shown.contains("warning: fsync = on"), "{shown}");
    daemon.stop();
    cluster.crash();
    let away = doctor(&[], &[]);
    assert!(away.code == Some(1) && away.stdout.starts_with("error: the server at 127.0.0.1:"), "{away:?}");
    assert!(away.stdout.contains("not seen: rights, public, version, fsync, "), "{away:?}");
}
