//! The text output of `pgdibs status`, and of lists of pools and templates, within 80 columns.

use jiff::Timestamp;

use super::table::{duration, fitted_table, lines_of, plain, shortened, size, table};
use pgdibs::api::database::{Database, DatabaseState};
use pgdibs::api::lease::{Lease, LeaseState};
use pgdibs::api::pool::Pool;
use pgdibs::api::status::{Daemon, FindingSeverity, Limits, Server, Status};
use pgdibs::api::template::{InputChanges, Template, TemplateState};
use pgdibs_server::config::HostPort;
use pgdibs_server::overview::changes_since;

/// A fingerprint in a table; its beginning without the ellipsis identifies the template for the other commands.
const FINGERPRINT_WIDTH: usize = 13;

/// The output of `pgdibs status`.
pub(super) fn status_screen(status: &Status, url: &str, now: Timestamp, colour: bool) -> String {
    let mut screen = lines_of(&daemon_line(status, url));
    screen.push_str(&lines_of(&server_line(&status.server)));
    for reason in &status.daemon.reasons {
        screen.push_str(&lines_of(&format!("not ready: {reason}")));
    }
    if let Some(detail) = &status.server.detail
        && !status.daemon.reasons.contains(detail)
    {
        screen.push_str(&lines_of(&format!("not reachable: {detail}")));
    }
    for warning in &status.server.warnings {
        screen.push_str(&lines_of(&format!("warning: {warning}")));
    }
    for finding in status.findings.iter().filter(|finding| finding.severity >= FindingSeverity::Warning) {
        let fix = finding.fix.as_ref().map_or(String::new(), |fix| format!("; run: {fix}"));
        screen.push_str(&lines_of(&format!("warning: {}{fix}", finding.title)));
    }
    if !status.server.reachable {
        return screen;
    }
    screen.push_str(&lines_of(&disk_line(&status.server.limits)));
    if status.pools.is_empty() {
        screen.push_str("\nno pools; `pgdibs pool set NAME` creates one\n");
        return screen;
    }
    screen.push('\n');
    screen.push_str(&pools_table(&status.pools, colour));
    screen.push('\n');
    screen.push_str(&templates_table(&status.pools, now, colour));
    screen.push('\n');
    screen.push_str(&leases_table(&status.leases, now, colour));
    if let Some(kept) = kept_table(&status.databases, now, colour) {
        screen.push('\n');
        screen.push_str(&kept);
    }
    screen
}

fn daemon_line(status: &Status, url: &str) -> String {
    let Daemon { version, reconciling, .. } = &status.daemon;
    let leader = match (reconciling, status.server.reachable) {
        (true, _) => ", the leader",
        (false, true) => ", not the leader: it grants ready databases, another daemon makes them",
        (false, false) => "",
    };
    format!("pgdibs {version} at {url}{leader}")
}

fn server_line(server: &Server) -> String {
    let version =
        server.version.as_ref().map_or_else(|| "server".to_owned(), |version| format!("PostgreSQL {version}"));
    let mut words = vec![version];
    words.extend(server.addresses.iter().map(|(name, address)| {
        let address = HostPort { host: address.host.clone(), port: address.port };
        if name == "default" { address.to_string() } else { format!("{name}={address}") }
    }));
    words.push(if server.reachable { "reachable" } else { "NOT REACHABLE" }.to_owned());
    words.join(", ")
}

fn disk_line(limits: &Limits) -> String {
    let floor = size(limits.disk_floor_bytes);
    match limits.free_disk_bytes {
        Some(free) if limits.below_disk_floor => {
            format!("disk: {} free, BELOW THE FLOOR of {floor} (disk_floor_mb): no database is cloned", size(free))
        }
        Some(free) => format!("disk: {} free, floor {floor}", size(free)),
        None => format!("disk: free space not known, floor {floor}"),
    }
}

/// A table of pools with their counts, and a line for each pool that is at work, has waiters, or has a blocked database.
pub(super) fn pools_table(pools: &[Pool], colour: bool) -> String {
    let rows = pools.iter().map(|pool| {
        let counts = &pool.counts;
        let mut row = vec![pool.pool.clone()];
        row.extend([counts.ready, counts.leased, counts.spare, counts.kept].map(|number| number.to_string()));
        row.extend([pool.warm, pool.max].map(|number| number.to_string()));
        row
    });
    let mut text = table(&["POOL", "READY", "LEASED", "SPARE", "KEPT", "WARM", "MAX"], rows.collect(), colour);
    for pool in pools {
        let at_work = at_work(pool);
        if !at_work.is_empty() {
            text.push_str(&lines_of(&format!("{}: {}", pool.pool, at_work.join(", "))));
        }
        for blocked in &pool.blocked {
            let reason = blocked.reason.as_deref().or(blocked.last_error.as_deref()).unwrap_or("no reason recorded");
            text.push_str(&lines_of(&format!("{} is blocked: {reason}", blocked.database)));
        }
    }
    text
}

fn at_work(pool: &Pool) -> Vec<String> {
    let counts = &pool.counts;
    let mut words = Vec::new();
    if pool.dropping {
        words.push("the pool is being dropped".to_owned());
    }
    for (number, what) in [(counts.creating, "being cloned"), (counts.retiring, "being dropped")] {
        if number > 0 {
            words.push(format!("{number} {what}"));
        }
    }
    if counts.waiting > 0 {
        let callers = if counts.waiting == 1 { "caller waits" } else { "callers wait" };
        words.push(format!("{} {callers}, the longest for {}", counts.waiting, duration(pool.longest_wait_seconds)));
    }
    words
}

/// A table of the templates of pools, and a line for each that is being built or failed.
pub(super) fn templates_table(pools: &[Pool], now: Timestamp, colour: bool) -> String {
    let templates: Vec<(&Pool, &Template)> =
        pools.iter().flat_map(|pool| pool.templates.iter().map(move |template| (pool, template))).collect();
    if templates.is_empty() {
        return "no templates; `pgdibs template build POOL --fingerprint F -- COMMAND` builds one\n".to_owned();
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let fingerprint = |template: &Template| shortened(&template.fingerprint, FINGERPRINT_WIDTH);
    let rows = templates.iter().map(|(pool, template)| {
        vec![
            pool.pool.clone(),
            fingerprint(template),
            template.state.as_str().to_owned(),
            or_dash(template.size_bytes.map(size)),
            or_dash(template.built_seconds.map(duration)),
            or_dash(age(&template.last_used_at, now).map(|age| format!("{age} ago"))),
        ]
    });
    let header = ["TEMPLATE OF", "FINGERPRINT", "STATE", "SIZE", "BUILT IN", "LAST USED"];
    let mut text = fitted_table(&header, rows.collect(), &[0], colour);
    for (pool, template) in templates {
        let name = format!("{} {}", pool.pool, fingerprint(template));
        match (template.state, &template.detail) {
            (TemplateState::Building, _) if !template.holder.is_empty() => {
                text.push_str(&lines_of(&format!("{name} is being built by {}", template.holder)));
            }
            (state, Some(detail)) => {
                let first = detail.lines().next().unwrap_or_default();
                text.push_str(&lines_of(&format!("{name} is {}: {first}", state.as_str())));
            }
            (TemplateState::Ready, _) => {
                if let Some(cost) = cost_of_clone(template).filter(|_| template.shares_blocks.is_some()) {
                    text.push_str(&lines_of(&format!("{name}: a clone takes {cost}")));
                }
            }
            _ => {}
        }
    }
    text
}

/// Time and disk of one clone.
fn cost_of_clone(template: &Template) -> Option<String> {
    let disk = template.clone_bytes.map_or(String::new(), |bytes| format!(" and {} of disk", size(bytes)));
    let shared = if template.shares_blocks == Some(true) { ", its blocks are shared with the template" } else { "" };
    Some(format!("{}{disk}{shared}", duration(template.clone_seconds?)))
}

/// One line for each template whose inputs differ from those of the one before it, or that was built although none does.
pub(super) fn change_lines(pools: &[Pool]) -> String {
    let templates = pools.iter().flat_map(|pool| &pool.templates);
    let changed = templates.filter_map(|template| Some((template, template.input_changes.as_ref()?)));
    let line = |(template, changes): (&Template, &InputChanges)| {
        let name = format!("{} {}", template.pool, shortened(&template.fingerprint, FINGERPRINT_WIDTH));
        lines_of(&format!("{name}: {}", changes_since(changes)))
    };
    changed.map(line).collect()
}

/// One template in full.
pub(super) fn template_screen(template: &Template, now: Timestamp) -> String {
    let ago = |at: &str| age(at, now).map_or_else(|| at.to_owned(), |age| format!("{at}, {age} ago"));
    let mut lines = vec![
        ("pool", template.pool.clone()),
        ("fingerprint", template.fingerprint.clone()),
        ("state", template.state.as_str().to_owned()),
        ("database", template.database.clone()),
        ("built by", template.holder.clone()),
        ("since", ago(&template.since)),
    ];
    lines.extend(template.built_seconds.map(|seconds| ("built in", duration(seconds))));
    lines.extend(template.size_bytes.map(|bytes| ("size", size(bytes))));
    lines.extend(template.strategy.map(|strategy| ("strategy", strategy.as_str().to_owned())));
    lines.extend(cost_of_clone(template).map(|cost| ("a clone", cost)));
    lines.push(("last used", ago(&template.last_used_at)));
    lines.extend(template.input_changes.as_ref().map(|changes| ("why", changes_since(changes))));
    let mut text: String = lines.iter().map(|(name, value)| format!("{name:<11}  {}\n", plain(value))).collect();
    if let Some(detail) = &template.detail {
        text.extend(["\n".to_owned()].into_iter().chain(detail.lines().map(|line| format!("{}\n", plain(line)))));
    }
    text
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
            let worker = format!("{worker}{}", alias.unwrap_or_default());
            vec![lease.database.clone(), worker, age, holder.to_owned()]
        })
        .collect();
    match rows.is_empty() {
        true => "no live leases\n".to_owned(),
        false => fitted_table(&["LEASED", "WORKER", "AGE", "HOLDER"], rows, &[3, 1], colour),
    }
}

fn kept_table(databases: &[Database], now: Timestamp, colour: bool) -> Option<String> {
    let rows: Vec<Vec<String>> = databases
        .iter()
        .filter(|database| database.state == DatabaseState::Kept)
        .map(|database| {
            let until = database.kept_until.as_deref().and_then(|until| age_between(now, until));
            let left = until.map_or_else(|| "-".to_owned(), |left| format!("for {left}"));
            vec![database.database.clone(), left, database.reason.clone().unwrap_or_else(|| "-".to_owned())]
        })
        .collect();
    (!rows.is_empty()).then(|| fitted_table(&["KEPT", "STAYS", "REASON"], rows, &[2], colour))
}

/// The time since `at`; `None` when it is no timestamp.
pub(super) fn age(at: &str, now: Timestamp) -> Option<String> {
    let at: Timestamp = at.parse().ok()?;
    Some(duration(now.duration_since(at).as_secs_f64()))
}

/// The time from now to `until`; `None` when it is no timestamp.
fn age_between(now: Timestamp, until: &str) -> Option<String> {
    let until: Timestamp = until.parse().ok()?;
    Some(duration(until.duration_since(now).as_secs_f64()))
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
            json!({"fingerprint": "abc", "holder": "ci-7", "size_bytes": 10_737_418_240_u64, "built_seconds": 4.8, "strategy": "file_copy",
                "clone_seconds": 0.3, "clone_bytes": 3_145_728, "shares_blocks": true,
                "last_used_at": "2026-11-21T11:58:00Z"}),
            json!({"fingerprint": "def", "state": "failed", "detail": "step 3 failed\nlast lines", "size_bytes": null,
                "built_seconds": null, "strategy": null, "clone_seconds": null, "last_used_at": "2026-11-21T11:57:00Z"}),
            json!({"fingerprint": "ghi", "state": "building", "holder": "ci-8", "size_bytes": null,
                "built_seconds": null, "strategy": null, "clone_seconds": null, "last_used_at": "2026-11-21T11:57:00Z"}),
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
            "databases": Example::Database.each(&[
                json!({"database": "myapp_test_kept_7", "state": "kept", "kept_until": "2026-11-21T12:30:00Z", "reason": "test_x failed"}),
            ]),
            "server": {"version": "15.18", "limits": {"free_disk_bytes": 53_687_091_200_u64, "disk_floor_bytes": 536_870_912}, "warnings": ["max is lowered to 20"],
                "addresses": {"default": {"host": "127.0.0.1", "port": 54321}, "network": {"host": "pg", "port": 5432}}},
            "pools": [Example::Pool.with(&pool)], "leases": leases,
        }));
        let expected = "\
pgdibs 0.1.0 at http://127.0.0.1:7432, the leader
PostgreSQL 15.18, compose=[fd00::5]:6000, 127.0.0.1:54321, network=pg:5432,
  reachable
not ready: the template of b_test is being built
warning: max is lowered to 20
warning: fsync = on, where a server for tests wants off; run: alter system set
  fsync = 'off'; select pg_reload_conf()
disk: 50.0 GB free, floor 512.0 MB

POOL        READY  LEASED  SPARE  KEPT  WARM  MAX
myapp_test  4      1       2      6     4     32
myapp_test: 3 being cloned, 5 being dropped, 8 callers wait, the longest for 1.2
  s
myapp_test_gw9 is blocked: three attempts failed

TEMPLATE OF  FINGERPRINT  STATE     SIZE     BUILT IN  LAST USED
myapp_test   abc          ready     10.0 GB  4.8 s     2 min 0 s ago
myapp_test   def          failed    -        -         3 min 0 s ago
myapp_test   ghi          building  -        -         3 min 0 s ago
myapp_test abc: a clone takes 0.3 s and 3.0 MB of disk, its blocks are shared
  with the template
myapp_test def is failed: step 3 failed
myapp_test ghi is being built by ci-8

LEASED          WORKER  AGE   HOLDER
myapp_test_gw0  gw0     12 s  ci-7/pid 4312

KEPT               STAYS           REASON
myapp_test_kept_7  for 30 min 0 s  test_x failed
";
        assert_eq!(status_screen(&status, "http://127.0.0.1:7432", now(), false), expected);
    }

    #[test]
    fn template_list_names_inputs_that_changed() {
        let changes = |lists: [&[&str]; 3], more: u32| {
            let [changed, added, removed] = lists;
            json!({"since": "5e884898da28047151d0", "changed": changed, "added": added, "removed": removed, "more": more})
        };
        let templates = Example::Template.each(&[
            json!({"fingerprint": "abc", "input_changes": changes([&["migrations/0042_x.sql"], &["0043_y.sql", "0044_z.sql"], &["old.sql"]], 7)}),
            json!({"fingerprint": "def", "input_changes": changes([&[], &[], &[]], 0)}),
            json!({"fingerprint": "ghi", "input_changes": null}),
        ]);
        let pool: Pool = serde_json::from_value(Example::Pool.with(&json!({"templates": templates}))).unwrap();
        let expected = "\
app abc: built after changes since 5e884898da28…: migrations/0042_x.sql
  changed; 0043_y.sql, 0044_z.sql added; old.sql removed; 7 more
app def: built without a change since 5e884898da28…: forced, or that template
  had been dropped
";
        assert_eq!(change_lines(std::slice::from_ref(&pool)), expected);
        assert!(template_screen(&pool.templates[0], now()).contains("why          built after changes since"));
    }

    #[test]
    fn status_without_pools_names_command_that_creates_one() {
        let limits = json!({"free_disk_bytes": null, "disk_floor_bytes": 536_870_912});
        let server = json!({"version": null, "warnings": [], "limits": limits, "addresses": {"default": {"host": "h", "port": 2}}});
        let screen =
            status_screen(&status(&json!({"pools": [], "findings": [], "server": server})), "http://h:1", now(), false);
        assert_eq!(
            screen,
            "pgdibs 0.1.0 at http://h:1, the leader\nserver, compose=[fd00::5]:6000, h:2, reachable\n\
             disk: free space not known, floor 512.0 MB\n\nno pools; `pgdibs pool set NAME` creates one\n"
        );
    }

    #[test]
    fn status_of_unreachable_server_shows_reason_without_pools() {
        let server = json!({"reachable": false, "detail": "connection refused"});
        let screen = status_screen(&status(&json!({"server": server, "pools": []})), "http://h:1", now(), false);
        assert!(screen.contains("NOT REACHABLE\nnot reachable: connection refused\n"), "{screen}");
        assert!(!screen.contains("no pools"), "an unreachable server has no known pools: {screen}");
    }

    /// Regression: the screen had 110 columns, U+FFFD in place of line breaks, and the reason for an outage twice.
    #[test]
    fn status_fits_80_columns_and_keeps_line_breaks() {
        let name = "a_pool_with_the_longest_name_of_40_lette";
        let detail = "the Postgres server is not available: it gave no answer within 8 s (127.0.0.1:5432); try again";
        let failed = "psql: sql/1.sql:3: ERROR:  syntax error at or near \"tabel\"\nLINE 1: create tabel t (n int);\n               ^";
        let long = "the holder of this lease has a name that does not fit into any column of a table";
        let pool = json!({"pool": name, "warm": 1000, "max": 1000, "longest_wait_seconds": 3599.0,
        "counts": {"ready": 1000, "creating": 1000, "retiring": 1000, "waiting": 1000},
        "blocked": [{"database": format!("{name}_gw999"), "reason": failed, "attempts": 3, "last_error": null}],
        "templates": Example::Template.each(&[
            json!({"fingerprint": "5e884898da28047151d0e56f8dc6292773603d0d", "size_bytes": 1023, "built_seconds": 3599.0}),
            json!({"fingerprint": "ghi", "state": "building", "holder": long}),
        ])});
        let status = status(&json!({
            "daemon": {"reasons": [format!("pool {name}: {failed}"), detail]},
            "server": {"detail": detail, "warnings": [format!("{long} {long}")], "limits": {"below_disk_floor": true}},
            "pools": [Example::Pool.with(&pool)],
            "leases": Example::Lease.each(&[json!({"database": format!("{name}_gw999"), "holder": long, "worker": "gw999"})]),
            "databases": Example::Database.each(&[json!({"database": format!("{name}_kept_999"), "state": "kept", "reason": failed})]),
        }));
        let screen = status_screen(&status, "http://127.0.0.1:7432", now(), false);
        let widest = screen.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 80, "{} columns: {widest}\n{screen}", widest.chars().count());
        assert!(!screen.contains('\u{fffd}'), "{screen}");
        assert!(screen.contains("\n  LINE 1: create tabel t (n int);\n                 ^\n"), "{screen}");
        assert_eq!(screen.matches("is not available").count(), 1, "{screen}");
    }
}
