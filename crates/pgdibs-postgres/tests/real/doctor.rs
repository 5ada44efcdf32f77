//! The doctor on servers that have what it looks for, and on one that has nothing of it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use pgdibs_core::lease::Lease;
use pgdibs_core::pool::PoolPatch;
use pgdibs_postgres::doctor::{Environment, Examination, Extent, Severity, examine};
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::cluster::Cluster;
use pgdibs_testing::conformance::ConformanceServer as _;
use pgdibs_testing::process::give_away;
use pgdibs_testing::seed::directory;
use sqlx::postgres::{PgConnection, PgPoolCopyExt as _};
use sqlx::{Connection as _, Executor as _};

use crate::connecting::on_each_cluster;
use crate::support::setting::{DAEMON, Setting, on_each_server, text};

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

fn environment() -> Environment {
    Environment { host: Some("box".to_owned()), ..Environment::of_this_machine(1 << 20) }
}

async fn examined(cluster: &Cluster) -> Examination {
    examine(&cluster.url().into(), &environment()).await
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
        assert_eq!(unseen, ["connections", "locks", "daemons", "runs", "reflink"], "{:?}", report.not_seen);
        let left = "select count(*) from pg_database where datname like 'pgdibs%'";
        assert_eq!(cluster.text("postgres", left).await, "0", "the probes are dropped");
    });
}

/// Two clocks, of which one is far from the server's.
fn late_clock() -> SystemTime {
    SystemTime::now() - Duration::from_secs(90)
}

fn early_clock() -> SystemTime {
    SystemTime::now() + Duration::from_secs(40)
}

/// A worker of the server that enters a database, as those of extensions do, and a library with the name of such an extension.
async fn add_background_workers(cluster: &mut Cluster, directory: &std::path::Path) {
    let libraries = cluster.text("postgres", "select setting from pg_config where name = 'PKGLIBDIR'").await;
    let library = directory.join("timescaledb.so");
    std::fs::copy(std::path::Path::new(&libraries).join("dict_snowball.so"), &library).unwrap();
    give_away(&library);
    cluster.configure(&format!("shared_preload_libraries={}", library.display()));
    cluster.stop();
    cluster.start_again();
    cluster.sql("postgres", "create database subscribing").await;
    cluster.sql("postgres", "create publication everything").await;
    cluster.sql("postgres", "select pg_create_logical_replication_slot('s', 'pgoutput')").await;
    let subscription = format!(
        "create subscription s connection '{}' publication everything with (create_slot = false, slot_name = s)",
        cluster.superuser_url("postgres").replace('\'', "''")
    );
    cluster.sql("subscribing", &subscription).await;
    let running = "select count(*) from pg_stat_activity where datname = 'subscribing' and backend_type like 'logical replication%'";
    cluster.until_text("postgres", running, "1").await;
}

#[test]
fn bad_settings_are_named_with_value_cost_and_line() {
    on_each_cluster(&BAD, async |cluster| {
        let directory = directory();
        add_background_workers(cluster, directory.path()).await;
        let major = cluster.binaries.major;
        if major >= 15 {
            let update = "update pg_database set datcollversion = 'of the old image' where datname = 'template1'";
            cluster.sql("postgres", update).await;
        }
        let floor = u64::MAX / 2;
        let environment = Environment { disk_floor_bytes: floor, clock: late_clock, ..environment() };
        let report = examine(&cluster.url().into(), &environment).await;
        let found = by_check(&report);
        assert_eq!(found.contains_key("collations"), major >= 15, "{found:?}");
        let checksums = cluster.text("postgres", "current_setting('data_checksums')").await == "on";
        assert_eq!(found.contains_key("data_checksums"), checksums, "{found:?}");
        if let Some((_, collations)) = found.get("collations") {
            assert!(
                collations.contains("made with version of the old image: template1;")
                    && collations.contains("reindexdb 'template1' && psql"),
                "{collations}"
            );
        }
        let early = Environment { clock: early_clock, ..environment.clone() };
        let ahead = by_check(&examine(&cluster.url().into(), &early).await);
        assert!(ahead["clock"].1.starts_with("the server's clock is 40 s behind this machine's"), "{ahead:?}");
        // A little above the floor it is a warning. What is free changes beside the test, but not by half a gigabyte.
        let free = space_of(&found["space"].1);
        let near = Environment { disk_floor_bytes: free - (1 << 29), ..early };
        let (severity, space) = by_check(&examine(&cluster.url().into(), &near).await)["space"].clone();
        assert!(severity == Severity::Warning && space.contains("a few clones more reach it"), "{space}");
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
            ("clock", Severity::Warning, ["is 90 s ahead of this machine's", "NTP", "", ""]),
            (
                "space",
                Severity::Error,
                ["GB are free on the disk of", "no clone is made", "disk_floor_mb is 9223372036.9 GB", ""],
            ),
            (
                "workers",
                Severity::Note,
                [
                    "1 background worker(s) have sessions in databases (logical replication",
                    "worker in subscribing)",
                    "shared_preload_libraries has timescaledb",
                    "waits for up to 5 s",
                ],
            ),
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

/// The bytes in "1.2 GB are free".
fn space_of(sentence: &str) -> u64 {
    let gigabytes: f64 = sentence.split_once(' ').unwrap().0.parse().unwrap();
    (gigabytes * 1e9) as u64
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
        let report = examine(&cluster.url_of(DAEMON, "d", "postgres").into(), &environment()).await;
        let found = by_check(&report);
        assert!(found["rights"].1.contains("is no superuser") && !found.contains_key("orphans"), "{found:?}");
        assert!(found["leftovers"].1.starts_with("2 database(s)"), "{found:?}");
        let unseen: BTreeMap<&str, &str> = report.not_seen.iter().map(|not| (not.check, not.why.as_str())).collect();
        for (check, why) in [
            ("orphans", "only a superuser may list"),
            ("disk", "may not read data_directory"),
            ("checkpoint", "only a superuser"),
            ("blockers", "pg_read_all_stats"),
            ("workers", "pg_monitor"),
            ("leftovers", "only a superuser may see files"),
        ] {
            assert!(unseen[check].contains(why), "{check}: {unseen:?}");
        }
        // One that may not even make databases: what it can see is seen.
        cluster.sql("postgres", "create role plain login password 'p'").await;
        let report = examine(&cluster.url_of("plain", "p", "postgres").into(), &environment()).await;
        let mut found = by_check(&report);
        // `initdb` of 18 switches them on.
        found.remove("data_checksums");
        let (severity, rights) = &found["rights"];
        assert!(
            *severity == Severity::Error && rights.contains("alter role \"plain\" createdb createrole"),
            "{rights}"
        );
        assert!(!found.contains_key("fsync") && found.len() == 1, "{found:?}");
        let unseen: Vec<&str> = report.not_seen.iter().map(|not| not.check).collect();
        for check in ["clone", "disk", "orphans", "leftovers", "locks", "public", "version"] {
            assert!(unseen.contains(&check), "{unseen:?}");
        }
        // A server that is away.
        cluster.crash();
        let report = examined(cluster).await;
        let found = by_check(&report);
        let (severity, server) = &found["server"];
        let host = format!("127.0.0.1:{}", cluster.port());
        assert!(*severity == Severity::Error && server.contains(&host) && found.len() == 1, "{found:?}");
        assert!(report.not_seen.len() > 20 && report.not_seen.iter().any(|not| not.check == "fsync"));
    });
}

/// What `drop schema public cascade` holds in the database of a lease.
async fn locks_of_drop(setting: &Setting, lease: &Lease) -> i64 {
    let options = setting.cluster.superuser_options(lease.database_name.as_str());
    let mut session = PgConnection::connect_with(&options).await.unwrap();
    session.execute("begin; drop schema public cascade").await.unwrap();
    let held = text(
        &mut session,
        "select count(*) from pg_locks where pid = pg_backend_pid() and locktype in ('relation', 'object')
           and (classid is null or classid <> 'pg_authid'::regclass)",
    )
    .await;
    session.close().await.unwrap();
    held.parse().unwrap()
}

#[test]
fn limits_are_compared_with_present_runs() {
    on_each_server(Rights::Superuser, async |setting: &Setting| {
        let cluster = &setting.cluster;
        let tables = |count: u32| -> String {
            (0..count).map(|n| format!("create table t{n} (id serial primary key, name text);")).collect()
        };
        let patch = PoolPatch { warm: Some(1), spares: Some(0), max: Some(4), ..PoolPatch::default() };
        setting.lease_of_build(&patch, "few", &tables(3)).await;
        let found = by_check(&examined(cluster).await);
        for check in ["locks", "connections", "runs", "daemons", "reflink", "blockers"] {
            assert!(!found.contains_key(check), "{check}: {found:?}");
        }
        let lease = setting.lease_of_build(&patch, "many", &tables(100)).await;
        let found = by_check(&examined(cluster).await);
        let (severity, locks) = &found["locks"];
        assert!(*severity == Severity::Warning && locks.contains("max_locks_per_transaction = 64"), "{locks}");
        let each = locks_of_drop(setting, &lease).await;
        let entries = setting.suite.backend.facts().lock_entries as i64;
        let numbers = format!(
            "gives {entries} locks (times max_connections); DROP SCHEMA public CASCADE of template {} takes {each}, measured on a clone, so {} at once fit, where 8 workers",
            setting.catalog_text("select name from templates where fingerprint = 'many'").await,
            entries / each
        );
        assert!(locks.contains(&numbers) && locks.contains("then restart the server"), "{numbers}\nin\n{locks}");
        assert!(!found.contains_key("connections") && !found.contains_key("runs"), "{found:?}");

        // Two runs of this machine, of which one announced 400 workers; the busiest has two sessions.
        let (one, two) = (setting.suite.enter(&lease).await, setting.suite.enter(&lease).await);
        setting
            .catalog(
                "update leases set run = fingerprint, worker = 'gw0', holder = 'box/' || '4312/gw0';
                 insert into announced_runs (run, pool, wanted) select 'many', name, 400 from pools;
                 update templates set size_bytes = 3::int8 << 30, clone_seconds = 7.5 where fingerprint = 'many'",
            )
            .await;
        let other = cluster.superuser_options("postgres").application_name("pgdibs-listener 0.0.9");
        let other = PgConnection::connect_with(&other).await.unwrap();
        let pool = sqlx::PgPool::connect_with(cluster.superuser_options("postgres")).await.unwrap();
        pool.execute("create table copied (n int)").await.unwrap();
        // It sends nothing, so its session waits for it.
        let copy = pool.copy_in_raw("copy copied from stdin").await.unwrap();
        let environment = Environment { cores: 4, ..environment() };
        let waits =
            "select count(*) from pg_stat_activity where query like 'copy copied%' and wait_event = 'ClientRead'
                     and query_start < now() - interval '1 s'";
        cluster.until_text("postgres", waits, "1").await;
        let report = examine(&cluster.url().into(), &environment).await;
        let found = by_check(&report);
        // A drop of the doctor would wait for that session.
        for check in ["clone", "locks"] {
            assert!(
                report.not_seen.iter().any(|not| not.check == check && not.why.ends_with("see blockers")),
                "{report:?}"
            );
        }
        let blocker =
            cluster.text("postgres", "select pid from pg_stat_activity where query like 'copy copied%'").await;
        let (_, blockers) = &found["blockers"];
        assert!(
            blockers.starts_with(&format!("session {blocker} of "))
                && blockers.ends_with(&format!("run: select pg_terminate_backend({blocker})")),
            "{blockers}"
        );
        let (severity, connections) = &found["connections"];
        assert!(
            *severity == Severity::Error
                && connections.contains("401 worker(s) × 2 session(s), measured on the busiest worker"),
            "{connections}"
        );
        assert!(connections.starts_with("max_connections leaves 77 connections"), "{connections}");
        assert!(
            found["runs"].1.starts_with("2 runs with 401 workers together share the 4 core(s)")
                && found["runs"].1.ends_with("`-n 2`"),
            "{:?}",
            found["runs"]
        );
        let versions = format!("({}, 0.0.9)", env!("CARGO_PKG_VERSION"));
        let versions = if env!("CARGO_PKG_VERSION") > "0.0.9" {
            format!("(0.0.9, {})", env!("CARGO_PKG_VERSION"))
        } else {
            versions
        };
        assert!(found["daemons"].1.contains(&versions), "{:?}", found["daemons"]);
        let (severity, reflink) = &found["reflink"];
        assert!(
            *severity == Severity::Note
                && reflink.contains("each clone of template many takes 7.5 s and 3222 MB of disk")
                && reflink.contains("reflink=1 or Btrfs"),
            "{reflink}"
        );
        drop((copy, other));
        pool.close().await;
        let found = by_check(&examine(&cluster.url().into(), &environment).await);
        assert!(!found.contains_key("blockers") && !found.contains_key("daemons"), "{found:?}");
        assert!(found["reflink"].1.contains("sharing would save up to 7."), "{:?}", found["reflink"]);
        // A daemon sees what lasts, without probes.
        let lasting = by_check(&setting.suite.backend.findings(Extent::Lasting).await);
        assert!(lasting.contains_key("reflink") && !lasting.contains_key("locks"), "{lasting:?}");
        setting.catalog("update templates set size_bytes = 9000000").await;
        let found = by_check(&examine(&cluster.url().into(), &environment).await);
        assert!(found["locks"].1.contains("where 401 workers") && !found.contains_key("reflink"), "{found:?}");
        for session in [one, two] {
            setting.suite.server.disconnect(session).await;
        }
        let left = "select count(*) from pg_database where datname like 'pgdibs_doctor%'";
        assert_eq!(cluster.text("postgres", left).await, "0", "the probes are dropped");
    });
}
