//! The text output of `pgdibs status`, and of lists of pools and templates.

use jiff::Timestamp;

use super::table::{duration, plain, shortened, size, table};
use pgdibs::api::lease::{Lease, LeaseState};
use pgdibs::api::pool::Pool;
use pgdibs::api::status::{Server, Status};
use pgdibs::api::template::TemplateState;
use pgdibs_server::config::HostPort;

/// The output of `pgdibs status`.
pub(super) fn status_screen(status: &Status, url: &str, now: Timestamp, colour: bool) -> String {
    let mut screen = format!("pgdibs {} at {url}\n{}\n", plain(&status.daemon.version), server_line(&status.server));
    for reason in &status.daemon.reasons {
        screen.push_str(&format!("not ready: {}\n", plain(reason)));
    }
    for warning in &status.server.warnings {
        screen.push_str(&format!("warning: {}\n", plain(warning)));
    }
    if !status.server.reachable {
        return screen;
    }
    if status.pools.is_empty() {
        screen.push_str("\nno pools; `pgdibs pool set NAME` creates one\n");
        return screen;
    }
    screen.push('\n');
    screen.push_str(&pools_table(&status.pools, colour));
    for blocked in status.pools.iter().flat_map(|pool| &pool.blocked) {
        let reason = blocked.reason.as_deref().or(blocked.last_error.as_deref()).unwrap_or("no reason recorded");
        screen.push_str(&plain(&format!("{} is blocked: {reason}", blocked.database)));
        screen.push('\n');
    }
    screen.push('\n');
    screen.push_str(&templates_table(&status.pools, now, colour));
    screen.push('\n');
    screen.push_str(&leases_table(&status.leases, now, colour));
    screen
}

fn server_line(server: &Server) -> String {
    let mut words = vec![match &server.version {
        Some(version) => format!("PostgreSQL {version}"),
        None => "server".to_owned(),
    }];
    words.extend(server.addresses.iter().map(|(name, address)| {
        let address = HostPort { host: address.host.clone(), port: address.port };
        if name == "default" { address.to_string() } else { format!("{name}={address}") }
    }));
    words.push(if server.reachable { "reachable" } else { "NOT REACHABLE" }.to_owned());
    words.extend(server.detail.clone());
    plain(&words.join(", "))
}

/// A table of pools with their counts.
pub(super) fn pools_table(pools: &[Pool], colour: bool) -> String {
    let header = [
        "POOL",
        "READY",
        "LEASED",
        "SPARE",
        "CREATING",
        "RETIRING",
        "KEPT",
        "BLOCKED",
        "WAITING",
        "LONGEST WAIT",
        "WARM",
        "MAX",
    ];
    let rows = pools.iter().map(|pool| {
        let counts = &pool.counts;
        let numbers = [
            counts.ready,
            counts.leased,
            counts.spare,
            counts.creating,
            counts.retiring,
            counts.kept,
            counts.blocked,
            counts.waiting,
        ];
        let wait = match counts.waiting > 0 || pool.longest_wait_seconds > 0.0 {
            true => duration(pool.longest_wait_seconds),
            false => "-".to_owned(),
        };
        let mut row = vec![pool.pool.clone()];
        row.extend(numbers.map(|number| number.to_string()));
        row.extend([wait, pool.warm.to_string(), pool.max.to_string()]);
        row
    });
    table(&header, rows.collect(), colour)
}

/// A table of the templates of pools.
pub(super) fn templates_table(pools: &[Pool], now: Timestamp, colour: bool) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows: Vec<Vec<String>> = pools
        .iter()
        .flat_map(|pool| pool.templates.iter().map(move |template| (pool, template)))
        .map(|(pool, template)| {
            let builder = Some(template.holder.as_str()).filter(|_| template.state == TemplateState::Building);
            let note = template.detail.as_deref().or(builder).unwrap_or_default();
            vec![
                pool.pool.clone(),
                shortened(&template.fingerprint, 24),
                template.state.as_str().to_owned(),
                or_dash(template.size_bytes.map(size)),
                or_dash(template.built_seconds.map(duration)),
                or_dash(template.strategy.map(|strategy| strategy.as_str().to_owned())),
                or_dash(age(&template.last_used_at, now).map(|age| format!("{age} ago"))),
                shortened(note.lines().next().unwrap_or_default(), 60),
            ]
        })
        .collect();
    if rows.is_empty() {
        return "no templates; `pgdibs template build POOL --fingerprint F -- COMMAND` builds one\n".to_owned();
    }
    table(&["TEMPLATE OF", "FINGERPRINT", "STATE", "SIZE", "BUILT IN", "STRATEGY", "LAST USED", ""], rows, colour)
}

fn leases_table(leases: &[Lease], now: Timestamp, colour: bool) -> String {
    let live = |lease: &&Lease| lease.state == LeaseState::Live;
    let rows: Vec<Vec<String>> = leases
        .iter()
        .filter(live)
        .map(|lease| {
            let alias = Some(&lease.alias).filter(|alias| *alias != "default").map(|alias| format!("/{alias}"));
            let worker = lease.worker.as_deref().unwrap_or("-");
            let age = age(&lease.acquired_at, now).unwrap_or_else(|| "-".to_owned());
            let holder = Some(lease.holder.as_str()).filter(|holder| !holder.is_empty()).unwrap_or("-");
            vec![
                lease.database.clone(),
                shortened(holder, 50),
                format!("{worker}{}", alias.unwrap_or_default()),
                age,
                lease.id.clone(),
            ]
        })
        .collect();
    match rows.is_empty() {
        true => "no live leases\n".to_owned(),
        false => table(&["LEASED", "HOLDER", "WORKER", "AGE", "LEASE"], rows, colour),
    }
}

/// The time since `at`; `None` when it is no timestamp.
fn age(at: &str, now: Timestamp) -> Option<String> {
    let at: Timestamp = at.parse().ok()?;
    Some(duration(now.duration_since(at).as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgdibs_testing::examples::Example;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn status(fields: &Value) -> Status {
        serde_json::from_value(Example::Status.with(fields)).unwrap()
    }

    #[test]
    fn status_shows_server_pools_templates_and_leases() {
        let templates = Example::Template.each(&[
            json!({"fingerprint": "abc", "holder": "ci-7", "size_bytes": 13_400_000, "built_seconds": 4.8, "strategy": "file_copy",
                "last_used_at": "2026-11-21T11:58:00Z"}),
            json!({"fingerprint": "def", "state": "failed", "detail": "step 3 failed\nlast lines", "size_bytes": null,
                "built_seconds": null, "strategy": null, "last_used_at": "2026-11-21T11:57:00Z"}),
        ]);
        let pool = json!({"pool": "myapp_test", "warm": 4, "max": 32, "spares": 2, "longest_wait_seconds": 1.25,
            "counts": {"ready": 4, "leased": 1, "spare": 2, "creating": 3, "retiring": 5, "kept": 6, "blocked": 7, "waiting": 8},
            "blocked": [{"database": "myapp_test_gw9", "reason": "three attempts failed", "attempts": 3, "last_error": null}],
            "templates": templates});
        let leases = Example::Lease.each(&[
            json!({"id": "0192", "database": "myapp_test_gw0", "holder": "ci-7/pid 4312", "worker": "gw0",
                "acquired_at": "2026-11-21T11:59:48Z"}),
            json!({"id": "0193", "state": "released", "database": "myapp_test_gw1"}),
        ]);
        let status = status(&json!({
            "daemon": {"version": "0.1.0", "ready": false, "reasons": ["the template of b_test is being built"]}, "unknown": [1],
            "server": {"version": "15.18", "warnings": ["max is lowered to 20"],
                "addresses": {"default": {"host": "127.0.0.1", "port": 54321}, "network": {"host": "pg", "port": 5432}}},
            "pools": [Example::Pool.with(&pool)], "leases": leases,
        }));
        let expected = "\
pgdibs 0.1.0 at http://127.0.0.1:7432
PostgreSQL 15.18, compose=[fd00::5]:6000, 127.0.0.1:54321, network=pg:5432, reachable
not ready: the template of b_test is being built
warning: max is lowered to 20

POOL        READY  LEASED  SPARE  CREATING  RETIRING  KEPT  BLOCKED  WAITING  LONGEST WAIT  WARM  MAX
myapp_test  4      1       2      3         5         6     7        8        1.2 s         4     32
myapp_test_gw9 is blocked: three attempts failed

TEMPLATE OF  FINGERPRINT  STATE   SIZE     BUILT IN  STRATEGY   LAST USED
myapp_test   abc          ready   12.8 MB  4.8 s     file_copy  2 min 0 s ago
myapp_test   def          failed  -        -         -          3 min 0 s ago  step 3 failed

LEASED          HOLDER         WORKER  AGE   LEASE
myapp_test_gw0  ci-7/pid 4312  gw0     12 s  0192
";
        assert_eq!(status_screen(&status, "http://127.0.0.1:7432", now(), false), expected);
    }

    #[test]
    fn status_without_pools_names_command_that_creates_one() {
        let server = json!({"version": null, "warnings": [], "addresses": {"default": {"host": "h", "port": 2}}});
        let screen = status_screen(&status(&json!({"pools": [], "server": server})), "http://h:1", now(), false);
        assert_eq!(
            screen,
            "pgdibs 0.1.0 at http://h:1\nserver, compose=[fd00::5]:6000, h:2, reachable\n\nno pools; `pgdibs pool set NAME` creates one\n"
        );
    }

    #[test]
    fn status_of_unreachable_server_shows_reason_without_pools() {
        let server = json!({"reachable": false, "detail": "connection refused"});
        let screen = status_screen(&status(&json!({"server": server, "pools": []})), "http://h:1", now(), false);
        assert!(screen.contains("NOT REACHABLE, connection refused"), "{screen}");
        assert!(!screen.contains("no pools"), "an unreachable server has no known pools: {screen}");
    }
}
