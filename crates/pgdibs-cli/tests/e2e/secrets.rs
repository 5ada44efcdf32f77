//! Secrets: the test runs every operation of a daemon and its commands at log level trace, then searches all output.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use pgdibs::Method;
use serde_json::{Value, json};

use pgdibs_testing::end_to_end::program::run;
use pgdibs_testing::end_to_end::{Cluster, Place, Session, StopOnDrop, pool_name, until};

/// Differs from the words of the search at the end of a whole run.
const TOKEN: &str = "canary-token-7Qm2";
const OF_A_BUILD: &str = "canary-variable-9Xw4";

/// The secrets, and all output.
#[derive(Default)]
struct Search {
    secrets: BTreeSet<String>,
    outputs: Vec<(String, String)>,
}

impl Search {
    /// Records the secrets in an answer.
    fn learn(&mut self, answer: &Value) {
        match answer {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str() {
                        Some(text) if ["password", "token"].contains(&name.as_str()) => {
                            self.secrets.insert(text.to_owned());
                        }
                        _ => self.learn(value),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.learn(value)),
            _ => {}
        }
    }

    fn saw(&mut self, what: &str, text: impl Into<String>) {
        self.outputs.push((what.to_owned(), text.into()));
    }

    #[track_caller]
    fn finish(self) {
        assert!(self.secrets.len() >= 8, "{:?}", self.secrets.len());
        for (what, text) in &self.outputs {
            assert!(!text.is_empty(), "{what} is empty: there is nothing to search");
            for secret in &self.secrets {
                let line = text.lines().find(|line| line.contains(secret.as_str()));
                assert!(line.is_none(), "{what}: {}", line.unwrap_or_default());
            }
        }
    }
}

/// Regression: secrets in `env` of a source were in the output of a failed build: in answers, `/readyz` and the log (found by
/// this search).
///
/// Regression: a request during the failure of a source's build could get `template_not_found` (found by this test on a busy
/// machine).
#[test]
fn no_output_contains_a_secret_at_trace_level() {
    let cluster = Cluster::start(&["log_statement=all", "log_connections=on", "log_min_messages=debug1"]);
    let place = Place::on(&cluster.url());
    let (built, failing, client) = (pool_name("built"), pool_name("failing"), pool_name("client"));
    place.write("db/01.sql", "create table t (n int); select pg_sleep(0.5);");
    // A build may print its secrets; its output is in answers, logs and the catalog.
    let source = |pool: &str, source: &str| {
        format!(
            "[pools.{pool}]\nwarm = 1\nspares = 1\n[pools.{pool}.source]\n{source}\nenv = {{ KEY = \"{OF_A_BUILD}\" }}\n"
        )
    };
    let printing =
        "command = [\"sh\", \"-c\", \"env; echo $KEY $DATABASE_URL; env >&2; exit 3\"]\ninputs = [\"db/*.sql\"]";
    place.write("pgdibs.toml", &format!("{}{}", source(&built, "sql_dir = \"db\""), source(&failing, printing)));
    place.write("token", TOKEN);
    let talkative = [
        ("PGDIBS_LOG", "trace,sqlx=trace,hyper=trace,axum=trace,tower_http=trace,h2=trace,reqwest=trace"),
        ("PGDIBS_TOKEN_FILE", "token"),
    ];
    let mut search = Search::default();
    search.secrets.extend([TOKEN, OF_A_BUILD].map(str::to_owned));
    search.secrets.extend(Cluster::passwords());

    let stop = AtomicBool::new(false);
    let lines = std::thread::scope(|scope| {
        // The command lines of the daemon and its descendants during all operations.
        let watcher = scope.spawn(|| {
            let mut lines = BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                lines.extend(place.command_lines());
                // The pause between two samples.
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            lines
        });
        // Also after a panic; the scope would otherwise wait for the watcher for ever.
        let watching = StopOnDrop(&stop);
        let mut daemon = place.start(&talkative);
        daemon.api.present(TOKEN);
        let api = daemon.api.clone();
        until("the pools exist", || match api.get("/v1/pools") {
            answer if answer.status == 200 => Ok(()),
            answer => Err(answer.body.to_string()),
        });
        let refused = api.post("/v1/leases", &json!({"pool": failing, "wait_seconds": 60}));
        let detail = refused.refused(422, "template_failed");
        assert!(
            detail.contains("PGPASSWORD=********") && detail.contains("KEY=********"),
            "the output is not masked: {detail}"
        );
        search.saw("the answer about a failed build", detail);
        let lease = api.lease(&json!({"pool": built, "wait_seconds": 60, "run": "r", "worker": "gw0"}));
        search.learn(&lease);
        let path = format!("/v1/leases/{}", lease["id"].as_str().unwrap());
        let database = lease["database"].as_str().unwrap().to_owned();
        Session::of(&lease).run("insert into t values (1)");
        search.learn(&api.post(&format!("{path}/renew"), &json!({})).expect(200));
        let kept = api.post(&format!("{path}/keep"), &json!({"reason": "inspection"})).expect(200);
        search.secrets.insert(password_of(&kept["kept_url"]));
        search.learn(&api.post(&format!("{path}/reset"), &json!({"wait_seconds": 60})).expect(200));
        search.learn(&api.post(&format!("/v1/databases/{database}/credentials"), &json!({})).expect(200));

        api.put(&format!("/v1/pools/{client}"), &json!({"warm": 1})).expect(201);
        for (fingerprint, ends) in [("first", "seal"), ("second", "abandon")] {
            let template = format!("/v1/pools/{client}/templates/{fingerprint}");
            let build = api.put(&template, &json!({})).expect(201);
            search.learn(&build);
            let token = json!({"token": build["build"]["token"]});
            api.post(&format!("{template}/renew"), &token).expect(200);
            api.post(&format!("{template}/{ends}"), &token);
            api.post(&format!("{template}/renew"), &token).refused(
                409,
                match ends {
                    "seal" => "template_not_building",
                    _ => "build_token_stale",
                },
            );
        }
        let batch = json!({"leases": [{"pool": client}], "wait_seconds": 60, "shared_login": true});
        search.learn(&api.post("/v1/leases/batch", &batch).expect(201));
        // Error messages quote input, but no tokens.
        let wrong = format!("/v1/pools/{client}/templates/first/renew");
        let refusal = api.post(&wrong, &json!({"token": format!("{TOKEN}\u{7}")})).refused(400, "invalid_request");
        search.saw("the refusal of a token", refusal);
        search.saw("the leases of other callers", api.get("/v1/leases?state=all").expect(200).to_string());

        for page in ["/v1/status", "/metrics", "/readyz", "/v1/pools", "/v1/databases", "/v1/leases", "/nowhere"] {
            search.saw(page, api.call(Method::GET, page, None).body.to_string());
        }
        let url = api.url();
        for arguments in [
            &["status"][..],
            &["config"],
            &["pool", "list"],
            &["template", "list"],
            &["renew", &database],
            &["reset", &database],
            &["run", "--pool", &client, "--", "true"],
            &["psql", &database, "--", "-c", "select 1"],
            &["template", "build", &client, "--fingerprint", "third", "--", "false"],
            &["healthcheck", "--ready"],
            &["--token", "wrong", "status"],
        ] {
            let variables = [("PGDIBS_URL", url.as_str()), ("PGDIBS_TOKEN_FILE", "token"), ("PGDIBS_LOG", "trace")];
            let done = run(place.program(arguments, &variables));
            search.saw(
                &format!("{arguments:?}"),
                format!("{} {}\n{}", done.code.unwrap_or(-1), done.stdout, done.stderr),
            );
        }
        api.delete(&path);
        api.until_counts(&built, &json!({"leased": 0, "retiring": 0}));
        search.saw("the daemon's log", daemon.log());
        daemon.stop();
        drop(watching);
        watcher.join().unwrap()
    });
    assert!(lines.iter().any(|line| line.contains("psql")), "no command line of a child was sampled: {lines:#?}");
    assert!(lines.iter().any(|line| line.contains(" serve")), "{lines:#?}");
    search.saw("command lines", lines.into_iter().collect::<Vec<_>>().join("\n"));
    let log = cluster.log();
    assert!(log.contains("create role") && log.contains("SCRAM-SHA-256"), "the log has no statements");
    search.saw("the server's log", log);
    search.finish();
}

fn password_of(url: &Value) -> String {
    let url = url.as_str().unwrap();
    let login = url.split_once("://").unwrap().1.split_once('@').unwrap().0;
    login.split_once(':').unwrap().1.to_owned()
}
