//! Databases with CONNECT for PUBLIC: revoked on the embedded server; on a given one, a warning with the statements to revoke it.

use serde_json::{Value, json};

use pgdibs_testing::end_to_end::{Api, Cluster, Daemon, Place, Session, pool_name};

const STATEMENT: &str = "REVOKE CONNECT ON DATABASE ";

/// Connects to another database of the server with the login of a lease; returns the SQLSTATE of an error.
fn connect_to(lease: &Value, database: &str) -> Result<(), String> {
    let url = lease["url"].as_str().unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    match Session::try_open(&format!("{server}/{database}")) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.as_database_error().unwrap().code().unwrap().into_owned()),
    }
}

fn refused() -> Result<(), String> {
    Err("42501".to_owned())
}

/// The statements in a text, as a user would copy them.
fn statements_in(text: &str) -> Vec<String> {
    let rest = text.split(STATEMENT).skip(1);
    rest.map(|rest| format!("{STATEMENT}{} FROM PUBLIC;", rest.split_once(" FROM PUBLIC;").unwrap().0)).collect()
}

fn warnings(api: &Api) -> Vec<String> {
    let findings = api.status()["findings"].clone();
    findings.as_array().unwrap().iter().map(|finding| finding["title"].as_str().unwrap().to_owned()).collect()
}

fn leased(daemon: &Daemon, pool: &str) -> Value {
    daemon.api.make_pool(pool, &json!({"warm": 1, "max": 1, "spares": 0}), "create table t (n int)");
    daemon.api.lease(&json!({"pool": pool}))
}

#[test]
fn lease_login_is_refused_by_other_databases_of_embedded_server() {
    let place = Place::create();
    let daemon = place.daemon(&[]);
    let lease = leased(&daemon, &pool_name("shut"));
    assert_eq!(connect_to(&lease, "postgres"), refused());
    assert_eq!(connect_to(&lease, "template1"), refused());
    assert_eq!(connect_to(&lease, "pgdibs"), refused());
    Session::of(&lease).run("insert into t values (1)");
    // The superuser can still connect, and the warning lists its new databases like any others.
    place.superuser("postgres").run("create database \"created externally\"");
    assert_eq!(place.superuser("template1").text("select current_database()"), "template1");
    assert!(!daemon.log().contains(STATEMENT), "{}", daemon.log());
    daemon.stop();
    let daemon = place.daemon(&[]);
    assert_eq!(statements_in(&daemon.log()), ["REVOKE CONNECT ON DATABASE \"created externally\" FROM PUBLIC;"]);
    daemon.stop();
}

/// These take long: `make test-all` runs them, `make test` does not.
mod long {
    use super::*;

    #[test]
    fn given_server_warning_lists_databases_open_to_public() {
        let cluster = Cluster::start(&[]);
        let odd = "it's \"mine\"";
        cluster.superuser("postgres").run("create database dev");
        cluster.superuser("postgres").run("create database \"it's \"\"mine\"\"\"");
        cluster.superuser("postgres").run("create database closed");
        cluster.superuser("postgres").run("revoke connect on database closed from public");
        let place = Place::on(&cluster.url());
        let daemon = place.daemon(&[]);
        let lease = leased(&daemon, &pool_name("open"));
        for database in ["postgres", "template1", "dev", &odd.replace('"', "%22").replace(' ', "%20")] {
            assert_eq!(connect_to(&lease, database), Ok(()), "{database}");
        }
        let statements = statements_in(&daemon.log());
        assert_eq!(
            statements,
            ["\"dev\"", "\"it's \"\"mine\"\"\"", "\"postgres\"", "\"template1\""]
                .map(|name| format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC;"))
        );
        let lines: Vec<String> =
            daemon.log().lines().filter(|line| line.contains(STATEMENT)).map(str::to_owned).collect();
        assert!(lines.len() == 1 && lines[0].contains("WARN"), "{lines:?}");
        let shown: Vec<String> =
            warnings(&daemon.api).into_iter().filter(|warning| warning.contains(STATEMENT)).collect();
        assert!(shown.len() == 1 && statements_in(&shown[0]) == statements, "{shown:?}");
        // pgdibs revokes nothing on a given server.
        assert_eq!(connect_to(&lease, "postgres"), Ok(()));

        // The warning does not list the databases and the catalog of pgdibs.
        daemon.stop();
        let daemon = place.daemon(&[]);
        assert_eq!(statements_in(&daemon.log()), statements);
        daemon.stop();

        // All statements at once, as printed.
        let mut superuser = cluster.superuser("postgres");
        superuser.run(&statements.join(" "));
        for database in ["postgres", "template1", "dev"] {
            assert_eq!(connect_to(&lease, database), refused(), "{database}");
        }
        let daemon = place.daemon(&[]);
        assert!(!daemon.log().contains(STATEMENT), "{}", daemon.log());
        assert!(warnings(&daemon.api).iter().all(|warning| !warning.contains(STATEMENT)));
        Session::of(&lease).run("insert into t values (1)");
        daemon.stop();
    }
}
