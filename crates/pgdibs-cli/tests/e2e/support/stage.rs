//! The stage of a fault test: a server and a daemon, a pool whose template holds something of everything, databases of strangers
//! whose names look like ours, somebody who holds a lease throughout, and the audit after each fault.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::callers::Load;
use super::ledger::Ledger;
use super::{Api, Cluster, DEADLINE, Daemon, Place, Session, contents, pool_name, until};

/// A pool small enough for eight callers to wait in turn.
const SETTINGS: &str = r#"{"warm": 3, "max": 6, "spares": 2}"#;
const WARM: u64 = 3;
pub(crate) const SPARES: u64 = 2;

/// How many callers a fault meets.
pub(crate) const CALLERS: u64 = 8;

/// Everything but the daemon, which tests kill and start.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) place: Place,
    pub(crate) pool: String,
    /// Always that of the newest daemon.
    pub(crate) api: Api,
    pub(crate) ledger: Ledger,
    pub(crate) seed: u64,
    /// The lines of a clean database.
    pub(crate) expected: Vec<String>,
    strangers: Vec<String>,
    steady: RefCell<Steady>,
    /// Seconds between two things that a caller does, at most.
    pub(crate) pause: f64,
    /// What every daemon of the stage is started with.
    variables: Vec<(String, String)>,
}

/// A lease that is held through all faults, and what was written into its database.
struct Steady {
    lease: Value,
    session: Option<Session>,
    rows: u64,
}

/// What an audit found to be as it should, beside what it asserts.
#[derive(Debug)]
pub(crate) struct Audit {
    /// Until the pool was full and nothing was under way.
    pub(crate) settled: Duration,
    /// Directories that a crash in mid-clone left behind; Postgres never removes them.
    pub(crate) orphans: u64,
}

impl Stage {
    /// A stage with a daemon that is ready; `settings` are the server's, `variables` the daemon's.
    #[track_caller]
    pub(crate) fn set(settings: &[&str], variables: &[(&str, &str)]) -> (Self, Daemon) {
        Self::on(settings, variables, "")
    }

    /// The same with a template so large that a clone takes its time.
    #[track_caller]
    pub(crate) fn set_bulky(settings: &[&str], variables: &[(&str, &str)]) -> (Self, Daemon) {
        Self::on(settings, variables, BULK)
    }

    #[track_caller]
    fn on(settings: &[&str], variables: &[(&str, &str)], more: &str) -> (Self, Daemon) {
        let cluster = Cluster::start(&[&["max_prepared_transactions=10"], settings].concat());
        let place = Place::on(&cluster.url());
        Self::with(cluster, place, variables, more)
    }

    /// The same on a server that is up; the daemons of the place reach it in a way of their own. The builder runs `more`.
    #[track_caller]
    pub(crate) fn with(cluster: Cluster, place: Place, variables: &[(&str, &str)], more: &str) -> (Self, Daemon) {
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
        let lease = api.lease(&json!({"pool": pool, "holder": "somebody steady", "run": "steady", "worker": "gw0"}));
        let stage = Self {
            expected: expected(&cluster, &api, &pool),
            strangers: Vec::new(),
            steady: RefCell::new(Steady { lease, session: None, rows: 0 }),
            cluster,
            place,
            pool,
            api,
            ledger: Ledger::default(),
            seed,
            pause: 0.1,
            variables: variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        let stage = stage.with_strangers();
        stage.write_steadily();
        (stage, daemon)
    }

    /// Another template with the same contents.
    #[track_caller]
    pub(crate) fn build(&self, fingerprint: &str) {
        build(&self.cluster, &self.api, &self.pool, fingerprint, "");
    }

    pub(crate) fn load(&self) -> Load<'_> {
        Load {
            api: &self.api,
            pool: &self.pool,
            expected: &self.expected,
            ledger: &self.ledger,
            seed: self.seed,
            pause: self.pause,
        }
    }

    /// Eight callers are busy and have been served when the work begins, and are served again after it.
    #[track_caller]
    pub(crate) fn under_load<T>(&self, work: impl FnOnce() -> T) -> T {
        self.load().during(CALLERS, || {
            self.ledger.until_served(CALLERS as usize);
            let result = work();
            self.ledger.until_served(CALLERS as usize);
            result
        })
    }

    /// A daemon in the place of one that has gone.
    #[track_caller]
    pub(crate) fn start(&self, more: &[(&str, &str)]) -> Daemon {
        let own = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let daemon = self.place.start(&own.chain(more.iter().copied()).collect::<Vec<_>>());
        self.api.moved_to(&daemon.api);
        daemon
    }

    /// A session of the superuser in the catalog.
    #[track_caller]
    pub(crate) fn catalog(&self) -> Session {
        self.cluster.superuser("pgdibs")
    }

    /// The names of the pool's databases in one state.
    #[track_caller]
    pub(crate) fn names(&self, state: &str) -> Vec<String> {
        let databases = self.api.get(&format!("/v1/databases?pool={}", self.pool)).expect(200);
        let databases = databases["databases"].as_array().unwrap().iter().filter(|found| found["state"] == state);
        databases.map(|found| found["database"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns when a clone is under way, its directory there and its row not. It may be done a moment later.
    #[track_caller]
    pub(crate) fn until_in_mid_clone(&self) {
        let mut boss = self.cluster.superuser("postgres");
        let began = Instant::now();
        // As tight as can be: a copy takes a few dozen milliseconds.
        while boss.text(ORPHANS) == "0" || boss.text(CLONES) == "0" {
            assert!(began.elapsed() < DEADLINE, "no clone was made");
        }
    }

    fn with_strangers(mut self) -> Self {
        let pool = &self.pool;
        let long = format!("{pool}_gw0_{}", "x".repeat(63 - pool.len() - 5));
        let names = [
            format!("{pool}_gw0x"),
            format!("{}_GW0", pool.to_uppercase()),
            // A name that a slot of ours could have: that number rests.
            format!("{pool}_gw5"),
            format!("{pool}_spare_x"),
            format!("{pool}_spare_999999999"),
            format!("{pool}_old_999999999"),
            format!("{pool}_template_ffffffffffff"),
            long,
            "pgdibs_of_somebody".to_owned(),
        ];
        let mut boss = self.cluster.superuser("postgres");
        // Postgres 14 has one way only.
        let cheaply = if boss.major() >= 15 { "strategy file_copy" } else { "" };
        for name in names {
            boss.run(&format!("create database \"{name}\" {cheaply}"));
        }
        boss.run("create role pgdibs_l_x login; create role pgdibs_of_somebody nologin");
        self.strangers = self.identities_of_strangers();
        self
    }

    /// Everything by which one would see that a stranger's database was touched.
    #[track_caller]
    pub(crate) fn identities_of_strangers(&self) -> Vec<String> {
        let mut boss = self.cluster.superuser("postgres");
        let mut seen = boss.list(
            "select format('%s %s %s %s %s %s %s', datname, oid, pg_get_userbyid(datdba), datallowconn, datistemplate, datconnlimit, datacl)
             from pg_database where pg_get_userbyid(datdba) = 'boss' and datname not in ('template0', 'template1', 'postgres', 'pgdibs')",
        );
        seen.extend(boss.list("select format('role %s %s', rolname, rolcanlogin) from pg_roles where rolname in ('pgdibs_l_x', 'pgdibs_of_somebody')"));
        seen
    }

    #[track_caller]
    pub(crate) fn assert_strangers_untouched(&self) {
        assert_eq!(self.identities_of_strangers(), self.strangers, "databases of strangers");
    }

    /// Whoever holds a lease throughout writes one more row, and finds all those of before.
    #[track_caller]
    pub(crate) fn write_steadily(&self) {
        let mut steady = self.steady.borrow_mut();
        let Steady { lease, session, rows } = &mut *steady;
        let url = lease["url"].as_str().unwrap().to_owned();
        let count = until("the steady holder writes and finds its rows", || {
            let mut open = match session.take() {
                Some(open) => open,
                None => Session::try_open(&url).map_err(|error| error.to_string())?,
            };
            open.try_run("insert into witness (note) values ('steady')").map_err(|error| error.to_string())?;
            let count = open.try_text("select count(*) from witness").map_err(|error| error.to_string())?;
            *session = Some(open);
            Ok(count.parse::<u64>().unwrap())
        });
        // A row whose answer was lost may be there as well.
        assert!(count > *rows, "{count} rows, and at least {rows} were answered, in {lease}");
        *rows = count;
    }

    /// After a fault, when the callers have stopped: the pool is full again within the time; every database equals the template;
    /// no lease lost its database; nothing leaked; nothing of others was touched.
    #[track_caller]
    pub(crate) fn audit(&self, daemon: &Daemon, within: Duration) -> Audit {
        self.ledger.assert_spotless();
        let settled = self.assert_back_to_rest(daemon, within);
        self.assert_strangers_untouched();
        Audit { settled, orphans: self.orphans() }
    }

    /// The part of an audit that is about what is ours; returns how long it took until the pool was full.
    #[track_caller]
    pub(crate) fn assert_back_to_rest(&self, daemon: &Daemon, within: Duration) -> Duration {
        let settled = self.until_full(within);
        self.write_steadily();
        self.assert_every_ready_database_is_clean();
        self.until_full(DEADLINE);
        assert_eq!(self.api.get("/readyz").status, 200, "{}", daemon.log());
        self.assert_nothing_leaked(daemon);
        settled
    }

    /// What Postgres left behind is counted by the daemon as well.
    #[track_caller]
    pub(crate) fn assert_orphans_are_told(&self) {
        until("every directory without a database is in the status", || {
            let told = self.api.status()["server"]["orphan_directories"].clone();
            let there = self.orphans();
            if told.as_array().unwrap().len() as u64 == there {
                Ok(())
            } else {
                Err(format!("{there} there, told of {told}"))
            }
        });
    }

    #[track_caller]
    fn until_full(&self, within: Duration) -> Duration {
        let began = Instant::now();
        let full = json!({"ready": WARM, "spare": SPARES, "leased": 1, "retiring": 0, "creating": 0, "kept": 0, "blocked": 0, "waiting": 0});
        until("the pool is full and nothing is under way", || {
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
            let seen = contents::lines(&mut Session::of(lease), true).unwrap();
            assert!(seen == self.expected, "{lease}\n{}", contents::difference(&self.expected, &seen));
        }
        for lease in &leases {
            self.api.release(lease);
        }
    }

    /// Databases, logins, connections, tickets, leases: those that are known of, and no others.
    #[track_caller]
    fn assert_nothing_leaked(&self, daemon: &Daemon) {
        let mut boss = self.cluster.superuser("postgres");
        let mut catalog = self.catalog();
        let known = "select name from databases union all select name from templates where oid is not null";
        let ours = "select datname::text from pg_database where pg_get_userbyid(datdba) = 'pgdibs_owner'";
        // A row may be written for a clone just now, and be given up again.
        until("the databases on the server are those of the rows", || {
            let (rows, databases) = (catalog.list(known), boss.list(ours));
            if rows == databases { Ok(()) } else { Err(format!("rows {rows:?}, databases {databases:?}")) }
        });
        until("the logins are those of the rows", || {
            let rows = catalog.list(
                "select login from databases union all select keep_login from databases where keep_login is not null",
            );
            let logins = boss.list("select rolname::text from pg_roles where rolname ~ '^pgdibs_l_[0-9]+$'");
            if rows == logins { Ok(()) } else { Err(format!("rows {rows:?}, logins {logins:?}")) }
        });
        // Those of a daemon that was killed count for nobody, and go at the next sweep.
        until("no ticket is left", || match catalog.text("select count(*) from tickets").as_str() {
            "0" => Ok(()),
            left => Err(left.to_owned()),
        });
        assert_eq!(catalog.list("select holder from leases where state = 'live'"), ["somebody steady"]);
        let instance = self.api.status()["daemon"]["instance"].as_str().unwrap().to_owned();
        let foreign = format!(
            "select format('%s %s %s', pid, application_name, state) from pg_stat_activity
             where application_name like 'pgdibs-ddl/%' and application_name <> 'pgdibs-ddl/{instance}'"
        );
        until("connections of daemons that are gone are gone", || {
            let left = boss.list(&foreign);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        // See `OWN_CONNECTIONS`: what `max` is lowered by.
        until("no more connections than are reckoned with", || {
            let ours = boss.list("select format('%s %s', application_name, state) from pg_stat_activity where application_name like 'pgdibs%'");
            if ours.len() <= pgdibs_postgres::connect::OWN_CONNECTIONS as usize {
                Ok(())
            } else {
                Err(format!("{ours:?}"))
            }
        });
        until("no transaction of ours is left open", || {
            let open = boss.list(
                "select format('%s %s', application_name, query) from pg_stat_activity
                 where application_name like 'pgdibs%' and state like 'idle in%' and state_change < now() - interval '1 s'",
            );
            if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
        });
        assert!(daemon.open_files() < 100, "{} open files", daemon.open_files());
    }

    /// Directories of no database, counted by ourselves.
    #[track_caller]
    pub(crate) fn orphans(&self) -> u64 {
        self.cluster.superuser("postgres").text(ORPHANS).parse().unwrap()
    }
}

/// Directories of no database.
const ORPHANS: &str = "select count(*) from pg_ls_dir('base') d where d ~ '^[0-9]+$' and not exists (select from pg_database where oid = d::oid)";
/// Clones under way.
const CLONES: &str = "select count(*) from pg_stat_activity where state = 'active' and query like 'create database%'";

/// Some 60 MB, so that a copy can be caught in the middle. The lines of a database leave this schema out.
pub(crate) const BULK: &str =
    "create schema bulk; create table bulk.bulk as select repeat('x', 1000) as filling from generate_series(1, 50000)";

/// A template, built over HTTP by a builder and, for what only the owner of a database may set, the superuser.
#[track_caller]
fn build(cluster: &Cluster, api: &Api, pool: &str, fingerprint: &str, more: &str) {
    let path = format!("/v1/pools/{pool}/templates/{fingerprint}");
    let build = api.put(&path, &json!({"holder": "a test"})).expect(201)["build"].clone();
    let mut builder = Session::open(build["url"].as_str().unwrap());
    builder.run(contents::SCHEMA);
    builder.run(more);
    let database = builder.text("select current_database()");
    drop(builder);
    cluster.superuser("postgres").run(&contents::of_the_superuser(pool, &database));
    let sealed = api.post(&format!("{path}/seal"), &json!({"token": build["token"]})).expect(200);
    assert_eq!(sealed["state"], "ready", "{sealed}");
}

/// The lines of a copy of the template that was made without pgdibs, and what a clone has beside them.
#[track_caller]
fn expected(cluster: &Cluster, api: &Api, pool: &str) -> Vec<String> {
    let template = api.pool(pool)["templates"][0]["database"].as_str().unwrap().to_owned();
    let mut boss = cluster.superuser("postgres");
    boss.run(&format!("create database a_copy template {template}"));
    let mut lines = contents::lines(&mut cluster.superuser("a_copy"), false).unwrap();
    boss.run("drop database a_copy with (force)");
    assert!(lines.len() > 60, "a template with something of everything: {lines:#?}");
    lines.extend(contents::outside(pool));
    lines.sort();
    lines
}
