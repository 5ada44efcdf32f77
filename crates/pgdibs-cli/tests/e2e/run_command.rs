//! `pgdibs run`: a database for a command, with a running daemon or with one that it starts.

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::json;

use pgdibs_testing::end_to_end::program::{Started, run};
use pgdibs_testing::end_to_end::{Cluster, Place, pool_name, signal, until};
use pgdibs_testing::seed::{PASSWORD, SUPERUSER};

#[test]
fn run_holds_the_lease_while_the_command_runs() {
    let place = Place::create();
    let daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let pool = pool_name("run");
    api.make_pool(&pool, &json!({"warm": 3, "max": 4, "spares": 1}), "create table t (n int)");
    let url = api.url();
    let variables = [("PGDIBS_URL", url.as_str())];
    let sh = |flags: &[&str], script: &str| {
        let arguments = [&["run"], flags, &["--", "sh", "-c", script]].concat();
        place.program(&arguments, &variables)
    };

    // Not `psql "$DATABASE_URL"`: other users could read the password in the process list.
    let script = "psql -Atqc 'select count(*) from t; insert into t values (1)' && psql -Atc 'select n from t' && \
                  test \"$DATABASE_URL\" = \"postgresql://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/$PGDATABASE\" && \
                  echo $PGDATABASE $PGDIBS_URL";
    let output = run(sh(&[], script)).well();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..2], ["0", "1"], "{output}");
    assert_eq!(lines[2], format!("{pool}_gw0 {url}"));
    api.until_counts(&pool, &json!({"leased": 0, "ready": 3}));
    assert_eq!(run(sh(&[], "exit 42")).code, Some(42));
    assert_eq!(run(sh(&[], "kill -9 $$")).code, Some(137));
    assert_eq!(run(sh(&["--pool", "unknown_pool"], "true")).code, Some(1));
    let aliases = "echo ${DATABASE_URL##*/} ${DATABASE_URL_REPLICA##*/}";
    let output = run(sh(&["--alias", "default", "--alias", "replica"], aliases)).well();
    let (one, other) = output.trim().split_once(' ').unwrap();
    let slot = format!("{pool}_gw");
    assert!(one.starts_with(&slot) && other.starts_with(&slot) && one != other, "{output}");
    let base = format!(
        "for n in 0 1; do PGDATABASE={pool}_gw$n psql -Atqc 'select count(*) from t'; done; \
         psql -Atqc 'select current_database()'; echo ${{DATABASE_URL##*/}}"
    );
    let output = run(sh(&["--workers", "2"], &base)).well();
    assert_eq!(output, format!("0\n0\n{pool}_gw0\n{pool}\n"));
    api.until_counts(&pool, &json!({"leased": 0, "ready": 3}));

    // The lease is renewed beyond its TTL while the command runs, and the command receives SIGTERM.
    let mut command =
        sh(&["--ttl", "1"], "trap 'echo caught; exit 9' TERM; echo started; while :; do sleep 0.05; done");
    command.stdout(Stdio::piped());
    let started = Started(Some(command.spawn().unwrap()));
    let lease = until("the command has its lease", || {
        let leases = api.get("/v1/leases").expect(200)["leases"].as_array().unwrap().clone();
        leases.into_iter().next().ok_or_else(String::new)
    });
    let since = std::time::Instant::now();
    until("three TTLs pass", || {
        let seen = api.get(&format!("/v1/leases/{}", lease["id"].as_str().unwrap())).expect(200);
        assert_eq!(seen["state"], "live", "{seen}");
        if since.elapsed().as_secs() >= 3 { Ok(()) } else { Err(format!("{:?}", since.elapsed())) }
    });
    signal(started.pid(), Signal::SIGTERM);
    let done = started.done();
    assert_eq!((done.code, done.stdout.as_str()), (Some(9), "started\ncaught\n"), "{done:?}");
    api.until_counts(&pool, &json!({"leased": 0, "ready": 3}));
    daemon.stop();
}

/// Regression: a Ctrl-C that ended the command before `pgdibs run` had noticed it was taken for a second one, which leaves the lease (found
/// by a reader of the README).
#[test]
fn interrupt_of_process_group_releases_the_lease() {
    let place = Place::create();
    let daemon = place.daemon(&[]);
    let pool = pool_name("interrupted");
    daemon.api.make_pool(&pool, &json!({"warm": 1, "max": 1, "spares": 1}), "create table t (n int)");
    let url = daemon.api.url();
    for round in 0..8 {
        let mut command = place.program(&["run", "--", "sleep", "60"], &[("PGDIBS_URL", url.as_str())]);
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Started(Some(command.spawn().unwrap()));
        until("sleep runs", || {
            let children = format!("/proc/{0}/task/{0}/children", started.pid());
            let child = std::fs::read_to_string(children).unwrap_or_default();
            let name = std::fs::read_to_string(format!("/proc/{}/comm", child.trim())).unwrap_or_default();
            if name.trim() == "sleep" { Ok(()) } else { Err(name) }
        });
        // As the terminal does: to the whole group at once.
        signal(-started.pid(), Signal::SIGINT);
        let done = started.done();
        assert_eq!(done.code, Some(130), "{done:?}");
        assert!(!done.stderr.contains("interrupted the release"), "round {round}: {done:?}");
        daemon.api.until_counts(&pool, &json!({"leased": 0}));
    }
    daemon.stop();
}

/// Regression: `pgdibs run` with its own daemon found no pool, because the daemon created those of `pgdibs.toml` after `/v1/pools`
/// answered (found by following the README).
#[test]
fn run_without_daemon_starts_and_stops_one() {
    let place = Place::create();
    let pool = pool_name("own");
    place.write("db/01.sql", "create table t (n int);");
    place.write(
        "pgdibs.toml",
        &format!("[pools.{pool}]\nwarm = 1\nspares = 0\n[pools.{pool}.source]\nsql_dir = \"db\"\n"),
    );
    // An unused port.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    place.write("tmp/here", "");
    let temporary = place.path().join("tmp").display().to_string();
    let variables = [("PGDIBS_LISTEN", free.as_str()), ("TMPDIR", temporary.as_str())];
    let done = run(place.program(&["run", "--", "psql", "-Atc", "select count(*) from t"], &variables));
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "0\n"), "{done:?}");
    // It says where the daemon logs.
    assert!(
        done.stderr.starts_with(&format!("pgdibs: no daemon answers at http://{free}: started one at ")),
        "{done:?}"
    );
    let log = done.stderr.lines().next().unwrap().split("; it logs to ").nth(1).unwrap();
    assert!(
        log.starts_with(&temporary) && std::fs::read_to_string(log).unwrap().contains("pgdibs listens on"),
        "{log}"
    );
    place.until_nothing_runs();
    let done = run(place.program(&["run", "--", "sh", "-c", "exit 5"], &variables));
    assert_eq!(done.code, Some(5), "{done:?}");
    place.until_nothing_runs();
    place.write("db/02.sql", "this is no SQL;");
    let done = run(place.program(&["run", "--", "true"], &variables));
    assert!(done.code == Some(1) && done.stderr.contains("02.sql, line 1"), "{done:?}");
    place.until_nothing_runs();
}

/// A developer's server, and an environment whose libpq variables refer to it.
#[test]
fn psql_in_run_connects_to_the_lease_despite_variables() {
    let own = Cluster::start(&[]);
    own.superuser("postgres").run("create database dev");
    own.superuser("dev").run("create table notes as select 'precious' as body from generate_series(1, 100)");
    let before = own.comparable_dump("dev");
    let place = Place::create();
    let daemon = place.daemon(&[]);
    let pool = pool_name("libpq");
    daemon.api.make_pool(&pool, &json!({"warm": 2, "max": 2, "spares": 0}), "create table notes (body text)");

    let port = own.port().to_string();
    let service = format!("host=127.0.0.1\nport={port}\nuser={SUPERUSER}\npassword={PASSWORD}\n");
    place.write("services", &format!("[dev]\ndbname=dev\n{service}"));
    let escaped = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    place.write("passwords", &format!("*:*:*:*:{escaped}\n"));
    let file = |name: &str| place.path().join(name).display().to_string();
    std::fs::set_permissions(file("passwords"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (services, passwords, url) = (file("services"), file("passwords"), daemon.api.url());
    let settings = [
        ("PGDIBS_URL", url.as_str()),
        ("PGHOST", "localhost"),
        ("PGPORT", port.as_str()),
        ("PGUSER", SUPERUSER),
        ("PGDATABASE", "dev"),
        ("PGPASSFILE", passwords.as_str()),
        ("PGSERVICEFILE", services.as_str()),
        ("PGOPTIONS", "-c work_mem=1234kB"),
    ];
    let redirections: [&[(&str, &str)]; 3] = [&[], &[("PGSERVICE", "dev")], &[("PGHOSTADDR", "127.0.0.1")]];
    let seen = "psql -Atc \"select current_database() || ' ' || current_setting('port') || ' ' || current_setting('work_mem')\"";
    for redirection in redirections {
        let variables = [settings.as_slice(), redirection].concat();
        // Without pgdibs, each of them refers to the developer's database.
        let mut plain = std::process::Command::new("sh");
        plain.args(["-c", seen]).envs(variables.iter().copied());
        let output = String::from_utf8(plain.output().unwrap().stdout).unwrap();
        assert_eq!(output, format!("dev {port} 1234kB\n"), "{redirection:?}");

        let script = format!("{seen} && psql -qc 'delete from notes; insert into notes values (1)'");
        let output = run(place.program(&["run", "--", "sh", "-c", &script], &variables)).well();
        let leased = output.strip_prefix(&format!("{pool}_gw")).unwrap_or_else(|| panic!("{redirection:?}: {output}"));
        assert!(!leased.contains(&format!(" {port} ")) && leased.ends_with(" 1234kB\n"), "{redirection:?}: {output}");
    }
    // With PGHOSTADDR of an unused address the connection would fail.
    let variables = [settings.as_slice(), &[("PGHOSTADDR", "127.0.0.9")]].concat();
    run(place.program(&["run", "--", "psql", "-qc", "insert into notes values (1)"], &variables)).well();

    // A program that requests the service by name does not find it, unless --keep-env allows it.
    let by_name = ["run", "--", "psql", "service=dev", "-Atc", "select count(*) from notes"];
    let done = run(place.program(&by_name, &settings));
    assert!(done.code == Some(2) && done.stderr.contains("definition of service \"dev\" not found"), "{done:?}");
    let meant = [&["run", "--keep-env", "PGSERVICEFILE"], &by_name[1..]].concat();
    assert_eq!(run(place.program(&meant, &settings)).well(), "100\n");
    assert_eq!(own.comparable_dump("dev"), before);
    daemon.stop();
}

/// These take long: `make test-all` runs them, `make test` does not.
mod long {
    use super::*;

    /// Regression: a daemon with a closed log pipe died during its shutdown and left its Postgres running (found by a test that took
    /// 33 s).
    #[test]
    fn concurrent_runs_share_a_started_daemon() {
        let place = Place::create();
        let pool = pool_name("both");
        place.write("db/01.sql", "create table t (n int);");
        place.write(
            "pgdibs.toml",
            &format!("[pools.{pool}]\nwarm = 2\nspares = 0\n[pools.{pool}.source]\nsql_dir = \"db\"\n"),
        );
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        // So long that only a daemon that stops its server leaves nothing running. The run that reads its log has ended by then.
        let variables = [("PGDIBS_LISTEN", free.as_str()), ("PGDIBS_LINGER_SECONDS", "600")];
        let start = |script: &str| {
            let mut command = place.program(&["run", "--", "sh", "-c", script], &variables);
            Started(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
        };
        let wait_for = |file: &str| format!("until [ -e {file} ]; do sleep 0.05; done");
        // The first run with a lease ends first, whichever run started the daemon.
        let script = format!(
            "if mkdir first; then touch first/here; {}; else touch second; {}; fi; psql -Atc 'select count(*) from t'",
            wait_for("second"),
            wait_for("first-has-ended")
        );
        let (one, other) = (start(&script), start(&script));
        let ended = |run: &Started| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", run.pid())).unwrap_or_default();
            stat.contains(") Z ")
        };
        let one_was_first = until("one of them has ended", || match (ended(&one), ended(&other)) {
            (false, false) => Err(format!("{:#?}", place.processes())),
            (one, _) => Ok(one),
        });
        place.write("first-has-ended", "");
        let (first, second) = if one_was_first { (one, other) } else { (other, one) };
        assert_eq!(first.done().well(), "0\n");
        assert_eq!(second.done().well(), "0\n");
        place.until_nothing_runs();
    }
}
