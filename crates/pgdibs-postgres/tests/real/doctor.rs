//! The doctor on servers that have what it looks for, and on one that has nothing of it.

use std::collections::BTreeMap;

use pgdibs_core::pool::PoolPatch;
use pgdibs_postgres::doctor::{Examination, Severity, examine};
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::cluster::Cluster;
use pgdibs_testing::conformance::ConformanceServer as _;

use crate::connecting::on_each_cluster;
use crate::support::setting::{DAEMON, Setting, on_each_server};

/// The settings of a server for tests, as the embedded one has them.
const GOOD: [&str; 9] = [
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "autovacuum_naptime=5min",
    "max_wal_size=1GB",
    "checkpoint_timeout=1h",
    "log_checkpoints=off",
    "max_locks_per_transaction=256",
    "shared_buffers=32MB",
];

const BAD: [&str; 9] = [
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "wal_level=logical",
    "shared_buffers=1100MB",
    "autovacuum=off",
    "max_wal_size=64MB",
    "checkpoint_timeout=1min",
    "log_checkpoints=on",
];

async fn examined(cluster: &Cluster) -> Examination {
    examine(&cluster.url().into()).await.unwrap_or_else(|error| panic!("{error}"))
}

/// The sentence of each finding, by its check.
fn by_check(report: &Examination) -> BTreeMap<&'static str, (Severity, String)> {
    report.findings.iter().map(|finding| (finding.check, (finding.severity, finding.sentence()))).collect()
}

#[test]
fn good_server_has_no_findings() {
    on_each_cluster(&GOOD, async |cluster| {
        for database in ["postgres", "template1"] {
            cluster.sql("postgres", &format!("revoke connect on database {database} from public")).await;
        }
        let mut report = examined(cluster).await;
        // `initdb` of 18 switches them on, and no setting of a running server changes that.
        report.findings.retain(|finding| finding.check != "data_checksums");
        assert_eq!(report.findings, []);
        let unseen: Vec<&str> =
            report.not_seen.iter().map(|not| not.check).filter(|check| *check != "collations").collect();
        assert_eq!(unseen, ["connections", "locks", "daemons", "runs"], "{:?}", report.not_seen);
        let left = "select count(*) from pg_database where datname like 'pgdibs%'";
        assert_eq!(cluster.text("postgres", left).await, "0", "the probes are dropped");
    });
}

#[test]
fn bad_settings_are_named_with_value_cost_and_line() {
    on_each_cluster(&BAD, async |cluster| {
        let found = by_check(&examined(cluster).await);
        for (check, severity, parts) in [
            (
                "fsync",
                Severity::Warning,
                ["fsync = on", "wants off", "empty database took", "set fsync = 'off'; select pg_reload_conf()"],
            ),
            (
                "synchronous_commit",
                Severity::Note,
                ["= on", "wants off", "a commit took", "set synchronous_commit = 'off'"],
            ),
            (
                "full_page_writes",
                Severity::Note,
                ["= on", "wants off", "a checkpoint took", "set full_page_writes = 'off'"],
            ),
            (
                "wal_level",
                Severity::Note,
                ["= logical", "wants replica", "WAL", "set wal_level = 'replica'; then restart"],
            ),
            (
                "shared_buffers",
                Severity::Note,
                ["= 1100MB", "wants 512MB", "a checkpoint took", "then restart the server"],
            ),
            ("autovacuum", Severity::Note, ["= off", "wants on", "statistics", "set autovacuum = 'on'"]),
            ("autovacuum_naptime", Severity::Note, ["= 1min", "wants 5min", "drop", "set autovacuum_naptime = '5min'"]),
            ("max_wal_size", Severity::Note, ["= 64MB", "wants 1GB", "a checkpoint took", "set max_wal_size = '1GB'"]),
            (
                "checkpoint_timeout",
                Severity::Note,
                ["= 1min", "wants 30min", "a checkpoint took", "set checkpoint_timeout = '30min'"],
            ),
            ("log_checkpoints", Severity::Note, ["= on", "wants off", "two lines", "set log_checkpoints = 'off'"]),
            ("public", Severity::Warning, ["postgres", "template1", "REVOKE CONNECT", "PUBLIC"]),
        ] {
            let (as_found, sentence) = found.get(check).unwrap_or_else(|| panic!("{check} is not in {found:?}"));
            assert_eq!(*as_found, severity, "{check}");
            for part in parts {
                assert!(sentence.contains(part), "{check} lacks {part:?}: {sentence}");
            }
        }
        assert!(found.contains_key("tmpfs") || cluster_is_in_memory(cluster).await, "{found:?}");
    });
}

async fn cluster_is_in_memory(cluster: &Cluster) -> bool {
    let directory = cluster.text("postgres", "current_setting('data_directory')").await;
    std::fs::read_to_string("/proc/mounts").unwrap().lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next().unwrap(), fields.next().unwrap());
        kind == "tmpfs" && at.len() > 1 && directory.starts_with(at)
    })
}

#[test]
fn leftovers_orphans_and_rights_are_found() {
    on_each_cluster(&GOOD, async |cluster| {
        for name in ["test_shop", "shop_gw3", "it's test_not"] {
            cluster.sql("postgres", &format!("create database \"{name}\"")).await;
        }
        let directory = cluster.text("postgres", "current_setting('data_directory')").await;
        std::fs::create_dir(format!("{directory}/base/4000000")).unwrap();
        let found = by_check(&examined(cluster).await);
        let (_, leftovers) = &found["leftovers"];
        assert!(leftovers.starts_with("2 database(s)"), "{leftovers}");
        assert!(
            leftovers.contains("dropdb 'shop_gw3'   # last changed on 20") && leftovers.contains("dropdb 'test_shop'"),
            "{leftovers}"
        );
        assert!(found["orphans"].1.contains("base/4000000"), "{:?}", found["orphans"]);
        cluster.sql("postgres", &format!("create role \"{DAEMON}\" login createdb createrole password 'd'")).await;
        let report =
            examine(&cluster.url_of(DAEMON, "d", "postgres").into()).await.unwrap_or_else(|error| panic!("{error}"));
        let found = by_check(&report);
        assert!(found["rights"].1.contains("is no superuser") && !found.contains_key("orphans"), "{found:?}");
        let unseen: Vec<&str> = report.not_seen.iter().map(|not| not.check).collect();
        for check in ["orphans", "disk", "checkpoint"] {
            assert!(unseen.contains(&check), "{unseen:?}");
        }
    });
}

/// Of the number of locks the test knows only that a table with an index and a key takes more than ten.
#[test]
fn limits_are_compared_with_present_runs() {
    on_each_server(Rights::Superuser, async |setting: &Setting| {
        let tables: String =
            (0..400).map(|n| format!("create table t{n} (id serial primary key, name text);")).collect();
        let patch = PoolPatch { warm: Some(1), spares: Some(0), ..PoolPatch::default() };
        let lease = setting.lease_of_build(&patch, "many", &tables).await;
        let found = by_check(&examined(&setting.cluster).await);
        let (severity, locks) = &found["locks"];
        assert!(*severity == Severity::Warning && locks.contains("max_locks_per_transaction = 64"), "{locks}");
        assert!(locks.contains("where 8 workers") && locks.contains("then restart the server"), "{locks}");
        assert!(!found.contains_key("connections") && !found.contains_key("runs"), "{found:?}");
        // 40 workers with the session of this lease each.
        let session = setting.suite.enter(&lease).await;
        setting.catalog("insert into announced_runs (run, pool, wanted) select 'r', name, 400 from pools").await;
        let found = by_check(&examined(&setting.cluster).await);
        let (severity, connections) = &found["connections"];
        assert!(
            *severity == Severity::Error && connections.contains("400 database(s) × 1 session(s)"),
            "{connections}"
        );
        assert!(found["locks"].1.contains("where 400 workers"), "{:?}", found["locks"]);
        setting.suite.server.disconnect(session).await;
        let left = "select count(*) from pg_database where datname like 'pgdibs_doctor%'";
        assert_eq!(setting.cluster.text("postgres", left).await, "0", "the probes are dropped");
    });
}
