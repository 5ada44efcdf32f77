//! The environment of a fault test: a server, a daemon, a pool whose template has objects of every kind, foreign databases with
//! similar names, a lease that is held throughout, and the audit after each fault.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::Api;
use super::callers::Load;
use super::contents;
use super::daemon::Daemon;
use super::ledger::Ledger;
use super::place::{Place, pool_name};
use crate::cluster::Cluster;
use crate::seed::SUPERUSER;
use crate::session::Session;
use crate::wait::{DEADLINE, until};

/// A pool small enough that eight callers have to wait.
const SETTINGS: &str = r#"{"warm": 3, "max": 6, "spares": 2}"#;
const WARM: u64 = 3;
pub const SPARES: u64 = 2;

/// The number of callers during a fault.
pub const CALLERS: u64 = 8;

/// The environment without the daemon, which tests kill and start.
pub struct Stage {
    pub cluster: Cluster,
    pub place: Place,
    pub pool: String,
    /// The API of the newest daemon.
    pub api: Api,
    pub ledger: Ledger,
    pub seed: u64,
    /// The lines of a clean database.
    pub expected: Vec<String>,
    foreign: Vec<String>,
    held: RefCell<HeldLease>,
    /// The maximum of seconds between two operations of a caller.
    pub pause: f64,
    /// The environment variables of every daemon.
    variables: Vec<(String, String)>,
}

/// A lease that is held through all faults, and the number of its rows.
struct HeldLease {
    lease: Value,
    session: Option<Session>,
    rows: u64,
}

/// The measurements of an audit.
#[derive(Debug)]
pub struct Audit {
    /// The time until the pool was full and idle.
    pub settled: Duration,
    /// Directories left by crashes during a clone; Postgres never removes them.
    pub orphans: u64,
}

impl Stage {
    /// Creates the environment with a ready daemon; `settings` are the server's, `variables` the daemon's.
    #[track_caller]
    pub fn set(settings: &[&str], variables: &[(&str, &str)]) -> (Self, Daemon) {
        Self::on(settings, variables, "")
    }

    /// The same with a template large enough for slow clones.
    #[track_caller]
    pub fn set_bulky(settings: &[&str], variables: &[(&str, &str)]) -> (Self, Daemon) {
        Self::on(settings, variables, BULK)
    }

    #[track_caller]
    fn on(settings: &[&str], variables: &[(&str, &str)], more: &str) -> (Self, Daemon) {
        let cluster = Cluster::start(&[&["max_prepared_transactions=10"], settings].concat());
        let place = Place::on(&cluster.url());
        Self::with(cluster, place, variables, more)
    }

    /// The same on a running server, which the daemons of `place` may reach through a proxy. The builder runs `more`.
    #[track_caller]
    pub fn with(cluster: Cluster, place: Place, variables: &[(&str, &str)], more: &str) -> (Self, Daemon) {
        let pool = pool_name("fault");
        place.write("pgdibs.toml", &format!("[pools.{pool}]\nroles = [\"observer\"]\n"));
        let daemon = place.daemon(variables);
        let api = daemon.api.clone();
        let given = std::env::var("PGDIBS_TEST_SEED")
            .or_else(|_| std::env::var("SOAK_SEED"))
            .ok()
            .filter(|seed| !seed.is_empty());
        let seed = given.map(|seed| seed.parse().unwrap_or_else(|_| panic!("the seed `{seed}` is no number")));
        let seed = seed.unwrap_or_else(rand::random);
        println!("PGDIBS_TEST_SEED={seed}");
        let path = format!("/v1/pools/{pool}");
        api.put(&path, &serde_json::from_str(SETTINGS).unwrap()).expect(200);
        build(&cluster, &api, &pool, "first", more);
        let lease =
            api.lease(&json!({"pool": pool, "holder": "permanent holder", "run": "permanent", "worker": "gw0"}));
        let stage = Self {
            expected: expected(&cluster, &api, &pool),
            foreign: Vec::new(),
            held: RefCell::new(HeldLease { lease, session: None, rows: 0 }),
            cluster,
            place,
            pool,
            api,
            ledger: Ledger::default(),
            seed,
            pause: 0.1,
            variables: variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        let stage = stage.create_foreign_databases();
        stage.write_to_held_lease();
        (stage, daemon)
    }

    /// Builds another template with the same contents.
    #[track_caller]
    pub fn build(&self, fingerprint: &str) {
        build(&self.cluster, &self.api, &self.pool, fingerprint, "");
    }

    pub fn load(&self) -> Load<'_> {
        Load {
            api: &self.api,
            pool: &self.pool,
            expected: &self.expected,
            ledger: &self.ledger,
            seed: self.seed,
            pause: self.pause,
        }
    }

    /// Runs `work` with eight active callers, which are served before and after it.
    #[track_caller]
    pub fn under_load<T>(&self, work: impl FnOnce() -> T) -> T {
        self.load().during(CALLERS, || {
            self.ledger.until_served(CALLERS as usize);
            let result = work();
            self.ledger.until_served(CALLERS as usize);
            result
        })
    }

    /// Starts the next daemon.
    #[track_caller]
    pub fn start(&self, more: &[(&str, &str)]) -> Daemon {
        let own = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let daemon = self.place.start(&own.chain(more.iter().copied()).collect::<Vec<_>>());
        self.api.moved_to(&daemon.api);
        daemon
    }

    /// A superuser session on the catalog.
    #[track_caller]
    pub fn catalog(&self) -> Session {
        self.cluster.superuser("pgdibs")
    }

    /// The names of the pool's databases in one state.
    #[track_caller]
    pub fn names(&self, state: &str) -> Vec<String> {
        let databases = self.api.get(&format!("/v1/databases?pool={}", self.pool)).expect(200);
        let databases = databases["databases"].as_array().unwrap().iter().filter(|found| found["state"] == state);
        databases.map(|found| found["database"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits for a clone in progress, with a directory and without a row in `pg_database`. It may end a moment later.
    #[track_caller]
    pub fn until_in_mid_clone(&self) {
        let mut boss = self.cluster.superuser("postgres");
        let began = Instant::now();
        // Without a pause: a copy takes a few dozen milliseconds.
        while boss.text(ORPHANS) == "0" || boss.text(CLONES) == "0" {
            assert!(began.elapsed() < DEADLINE, "no clone was started");
        }
    }

    fn create_foreign_databases(mut self) -> Self {
        let pool = &self.pool;
        let long = format!("{pool}_gw0_{}", "x".repeat(63 - pool.len() - 5));
        let names = [
            format!("{pool}_gw0x"),
            format!("{}_GW0", pool.to_uppercase()),
            // The name of a slot: the planner skips this number.
            format!("{pool}_gw5"),
            format!("{pool}_spare_x"),
            format!("{pool}_spare_999999999"),
            format!("{pool}_old_999999999"),
            format!("{pool}_template_ffffffffffff"),
            long,
            "pgdibs_of_another".to_owned(),
        ];
        let mut boss = self.cluster.superuser("postgres");
        // Postgres 14 has no `strategy` option.
        let cheaply = if boss.major() >= 15 { "strategy file_copy" } else { "" };
        for name in names {
            boss.run(&format!("create database \"{name}\" {cheaply}"));
        }
        boss.run("create role pgdibs_l_x login; create role pgdibs_of_another nologin");
        self.foreign = self.foreign_identities();
        self
    }

    /// The attributes of foreign databases and roles that a change would affect.
    #[track_caller]
    pub fn foreign_identities(&self) -> Vec<String> {
        let mut boss = self.cluster.superuser("postgres");
        let mut seen = boss.list(&format!(
            "select format('%s %s %s %s %s %s %s', datname, oid, pg_get_userbyid(datdba), datallowconn, datistemplate, datconnlimit, datacl)
             from pg_database where pg_get_userbyid(datdba) = '{SUPERUSER}' and datname not in ('template0', 'template1', 'postgres', 'pgdibs')",
        ));
        seen.extend(boss.list("select format('role %s %s', rolname, rolcanlogin) from pg_roles where rolname in ('pgdibs_l_x', 'pgdibs_of_another')"));
        seen
    }

    #[track_caller]
    pub fn assert_foreign_databases_unchanged(&self) {
        assert_eq!(self.foreign_identities(), self.foreign, "foreign databases");
    }

    /// The permanent holder inserts one more row and finds all earlier rows.
    #[track_caller]
    pub fn write_to_held_lease(&self) {
        let mut steady = self.held.borrow_mut();
        let HeldLease { lease, session, rows } = &mut *steady;
        let url = lease["url"].as_str().unwrap().to_owned();
        let count = until("the permanent holder writes and finds its rows", || {
            let mut open = match session.take() {
                Some(open) => open,
                None => Session::try_open(&url).map_err(|error| error.to_string())?,
            };
            open.try_run("insert into witness (note) values ('held')").map_err(|error| error.to_string())?;
            let count = open.try_text("select count(*) from witness").map_err(|error| error.to_string())?;
            *session = Some(open);
            Ok(count.parse::<u64>().unwrap())
        });
        // An insert may have committed although its answer was lost.
        assert!(count > *rows, "{count} rows in {lease}, but more than {rows} were committed");
        *rows = count;
    }

    /// After a fault and the end of the load: the pool is full within `within`, every database equals the template, no lease lost
    /// its database, nothing leaked, and foreign databases are unchanged.
    #[track_caller]
    pub fn audit(&self, daemon: &Daemon, within: Duration) -> Audit {
        self.ledger.assert_no_violations();
        let settled = self.assert_idle_and_clean(daemon, within);
        self.assert_foreign_databases_unchanged();
        Audit { settled, orphans: self.orphans() }
    }

    /// The audit without foreign databases; returns the time until the pool was full.
    #[track_caller]
    pub fn assert_idle_and_clean(&self, daemon: &Daemon, within: Duration) -> Duration {
        let settled = self.until_full(within);
        self.write_to_held_lease();
        self.assert_every_ready_database_is_clean();
        self.until_full(DEADLINE);
        assert_eq!(self.api.get("/readyz").status, 200, "{}", daemon.log());
        self.assert_nothing_leaked(daemon);
        settled
    }

    /// The daemon's status reports every orphan directory.
    #[track_caller]
    pub fn assert_orphans_are_reported(&self) {
        until("every directory without a database is in the status", || {
            let reported = self.api.status()["server"]["orphan_directories"].clone();
            let there = self.orphans();
            if reported.as_array().unwrap().len() as u64 == there {
                Ok(())
            } else {
                Err(format!("{there} exist, reported: {reported}"))
            }
        });
    }

    #[track_caller]
    fn until_full(&self, within: Duration) -> Duration {
        let began = Instant::now();
        let full = json!({"ready": WARM, "spare": SPARES, "leased": 1, "retiring": 0, "creating": 0, "kept": 0, "blocked": 0, "waiting": 0});
        until("the pool is full and idle", || {
            let answer = self.api.try_call(pgdibs::Method::GET, &format!("/v1/pools/{}", self.pool), None)?;
            let seen = &answer.body["counts"];
            if seen == &full {
                return Ok(());
            }
            assert!(began.elapsed() < within, "not full within {within:?}: {}", answer.body);
            Err(answer.body.to_string())
        });
        began.elapsed()
    }

    #[track_caller]
    fn assert_every_ready_database_is_clean(&self) {
        let leases: Vec<Value> =
            (0..WARM).map(|_| self.api.lease(&json!({"pool": self.pool, "wait_seconds": 0}))).collect();
        for lease in &leases {
            let seen = contents::describe(&mut Session::of(lease), true).unwrap();
            assert!(seen == self.expected, "{lease}\n{}", contents::difference(&self.expected, &seen));
        }
        for lease in &leases {
            self.api.release(lease);
        }
    }

    /// Databases, logins, connections, tickets and leases are exactly those of the catalog.
    #[track_caller]
    fn assert_nothing_leaked(&self, daemon: &Daemon) {
        let mut boss = self.cluster.superuser("postgres");
        let mut catalog = self.catalog();
        let known = "select name from databases union all select name from templates where oid is not null";
        let owned = "select datname::text from pg_database where pg_get_userbyid(datdba) = 'pgdibs_owner'";
        // The planner may be adding or removing a row for a clone.
        until("the databases on the server are those of the rows", || {
            let (rows, databases) = (catalog.list(known), boss.list(owned));
            if rows == databases { Ok(()) } else { Err(format!("rows {rows:?}, databases {databases:?}")) }
        });
        until("the logins are those of the rows", || {
            let rows = catalog.list(
                "select login from databases union all select keep_login from databases where keep_login is not null",
            );
            let logins = boss.list("select rolname::text from pg_roles where rolname ~ '^pgdibs_l_[0-9]+$'");
            if rows == logins { Ok(()) } else { Err(format!("rows {rows:?}, logins {logins:?}")) }
        });
        // The garbage collection deletes the tickets of a killed daemon.
        until("no ticket remains", || match catalog.text("select count(*) from tickets").as_str() {
            "0" => Ok(()),
            left => Err(left.to_owned()),
        });
        assert_eq!(catalog.list("select holder from leases where state = 'live'"), ["permanent holder"]);
        let instance = self.api.status()["daemon"]["instance"].as_str().unwrap().to_owned();
        let foreign = format!(
            "select format('%s %s %s', pid, application_name, state) from pg_stat_activity
             where application_name like 'pgdibs-ddl/%' and application_name <> 'pgdibs-ddl/{instance}'"
        );
        until("no connection of an ended daemon remains", || {
            let left = boss.list(&foreign);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        // The daemon lowers `max` by this number of connections.
        until("no more connections than OWN_CONNECTIONS", || {
            let connections = boss.list("select format('%s %s', application_name, state) from pg_stat_activity where application_name like 'pgdibs%'");
            if connections.len() <= pgdibs_postgres::connect::OWN_CONNECTIONS as usize {
                Ok(())
            } else {
                Err(format!("{connections:?}"))
            }
        });
        until("no transaction of the daemon is left open", || {
            let open = boss.list(
                "select format('%s %s', application_name, query) from pg_stat_activity
                 where application_name like 'pgdibs%' and state like 'idle in%' and state_change < now() - interval '1 s'",
            );
            if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
        });
        assert!(daemon.open_files() < 100, "{} open files", daemon.open_files());
    }

    /// Counts the directories without a database.
    #[track_caller]
    pub fn orphans(&self) -> u64 {
        self.cluster.superuser("postgres").text(ORPHANS).parse().unwrap()
    }
}

/// Directories without a database.
const ORPHANS: &str = "select count(*) from pg_ls_dir('base') d where d ~ '^[0-9]+$' and not exists (select from pg_database where oid = d::oid)";
/// Clones in progress.
const CLONES: &str = "select count(*) from pg_stat_activity where state = 'active' and query like 'create database%'";

/// About 60 MB, so that tests can interrupt a copy. The compared lines exclude this schema.
pub const BULK: &str =
    "create schema bulk; create table bulk.bulk as select repeat('x', 1000) as filling from generate_series(1, 50000)";

/// Builds a template over HTTP; the superuser makes the settings that need the database's owner.
#[track_caller]
fn build(cluster: &Cluster, api: &Api, pool: &str, fingerprint: &str, more: &str) {
    let path = format!("/v1/pools/{pool}/templates/{fingerprint}");
    let build = api.put(&path, &json!({"holder": "a test"})).expect(201)["build"].clone();
    let mut builder = Session::open(build["url"].as_str().unwrap());
    builder.run(contents::SCHEMA);
    builder.run(more);
    let database = builder.text("select current_database()");
    drop(builder);
    cluster.superuser("postgres").run(&contents::superuser_part(pool, &database));
    let sealed = api.post(&format!("{path}/seal"), &json!({"token": build["token"]})).expect(200);
    assert_eq!(sealed["state"], "ready", "{sealed}");
}

/// The lines of a plain copy of the template, plus those that the daemon adds to a clone.
#[track_caller]
fn expected(cluster: &Cluster, api: &Api, pool: &str) -> Vec<String> {
    let template = api.pool(pool)["templates"][0]["database"].as_str().unwrap().to_owned();
    let mut boss = cluster.superuser("postgres");
    boss.run(&format!("create database a_copy template {template}"));
    let mut lines = contents::describe(&mut cluster.superuser("a_copy"), false).unwrap();
    boss.run("drop database a_copy with (force)");
    assert!(lines.len() > 60, "the template has too few objects: {lines:#?}");
    lines.extend(contents::outside(pool));
    lines.sort();
    lines
}
