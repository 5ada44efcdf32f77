//! The doctor: what of a server slows tests down or breaks them, what it costs there, and the line that changes it.

mod finding;
mod environment;
mod disk;
mod leftovers;
mod limits;
mod probe;
mod reflink;
mod settings;
mod state;

use std::time::Duration;

use secrecy::SecretString;
use sqlx::postgres::PgConnection;

pub use self::environment::Environment;
pub use self::finding::{Examination, Finding, NotSeen, Severity};
use self::probe::{Costs, application};
use crate::address::{CATALOG, ConnectError, ServerAddress};
use crate::context::PgBackend;
use crate::facts::ServerFacts;
use crate::{connect, ddl, sqlstate};

/// Longer than all probes on a server that works; one that does not answer is reported, not waited for.
const DEADLINE: Duration = Duration::from_secs(20);

/// The drop of a probe would wait for as long as the session does.
const DROP_WOULD_WAIT: &str = "a database that is made to measure could not be dropped: see blockers";

/// The checks that read the catalog, which a daemon makes.
const OF_CATALOG: [&str; 5] = ["connections", "locks", "daemons", "runs", "reflink"];

/// The checks that need the server's limits or paths.
const OF_FACTS: [&str; 6] = ["rights", "public", "version", "disk", "orphans", "leftovers"];

/// Looks at a server and measures on it: a few commits, a checkpoint, and databases that are made and dropped. What it finds until the server
/// stops answering is in the report.
pub async fn examine(url: &SecretString, environment: &Environment) -> Examination {
    let mut report = Examination::default();
    let looked = match tokio::time::timeout(DEADLINE, run_checks(url, environment, &mut report)).await {
        Ok(looked) => looked,
        Err(_) => Err(ConnectError::NotUp(format!(
            "no answer to the doctor within {} s; a session in the middle of a COPY may hold a drop up",
            DEADLINE.as_secs()
        ))),
    };
    if let Err(error) = looked {
        let shown = ServerAddress::parse(url).map_or(String::new(), |address| format!(" at {}", address.shown()));
        report.add(Finding::new("server", Severity::Error, format!("the server{shown} cannot be examined: {error}")));
        report.none_seen("the server could not be examined to the end");
    }
    report.sort();
    report
}

async fn run_checks(
    url: &SecretString,
    environment: &Environment,
    report: &mut Examination,
) -> Result<(), ConnectError> {
    let address = ServerAddress::parse(url)?;
    match connect::refuse_transaction_pooling(&address, "postgres").await {
        Ok(()) => {}
        Err(ConnectError::Unusable(why)) => {
            report.add(Finding::new("pooler", Severity::Error, why));
            report.none_seen("behind a pooler in transaction mode each statement may reach another session");
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    let mut session = address.connect("postgres", &application()).await?;
    ddl::bound_locks().run(&mut session).await?;
    let facts = match ServerFacts::read(&mut session).await {
        Ok(facts) => Some(facts),
        Err(sqlx::Error::Configuration(why)) => {
            report.add(Finding::new("rights", Severity::Error, why.to_string()));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let suspects = match &facts {
        Some(facts) => disk::suspects(&mut session, facts).await?,
        None => disk::Suspects::default(),
    };
    let mut catalog = catalog(&address, &mut session, report).await?;
    let blocked = state::blockers(&mut session, report).await?;
    let costs = match blocked {
        false => probe::measure(&mut session, report).await?,
        true => {
            ["clone", "checkpoint", "locks"].iter().for_each(|check| report.not_seen(check, DROP_WOULD_WAIT));
            Costs::default()
        }
    };
    lasting(&mut session, catalog.as_mut(), facts.as_ref(), environment, &costs, report).await;
    if let Some(facts) = &facts {
        let done = disk::orphans(&mut session, facts, &suspects, report).await;
        report.unless(&["orphans"], done);
    }
    if let (Some(catalog), Some(facts)) = (&mut catalog, &facts) {
        let workers = limits::workers(catalog, facts, environment, report).await;
        match workers {
            Ok(workers) if !blocked => {
                let done = limits::locks(&address, catalog, facts, workers, report).await;
                report.unless(&["locks"], done);
            }
            workers => report.unless(&["connections", "runs"], workers.map(|_| ())),
        }
    }
    report.major = facts.map(|facts| facts.major);
    Ok(())
}

/// Ends the sessions of an interrupted [`examine`] of this process, and removes what it left.
pub async fn remove_probes(url: &SecretString) -> Result<(), ConnectError> {
    let mut session = ServerAddress::parse(url)?.connect("postgres", &application()).await?;
    for _ in 0..ATTEMPTS {
        let ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                     where application_name = $1 and usename = current_user and pid <> pg_backend_pid()";
        let left: i64 = sqlx::query_scalar(ended).bind(application()).fetch_one(&mut session).await?;
        if left == 0 {
            break;
        }
        // The interval of this poll.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(probe::remove_left_over(&mut session).await?)
}

/// A session ends within milliseconds, in the middle of `create database` after its present file.
const ATTEMPTS: u32 = 100;

/// How much a daemon looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What it reads within milliseconds, so that its start does not wait.
    Start,
    /// Everything that stays as it is for minutes.
    Lasting,
}

impl PgBackend {
    /// What a daemon says of its server, without probes.
    pub async fn findings(&self, extent: Extent) -> Examination {
        let mut report = Examination::default();
        let environment = Environment::of_this_machine(self.disk_floor_bytes);
        let looking = async {
            let mut session = self.connections.address.connect(CATALOG, &application()).await?;
            ddl::bound_locks().run(&mut session).await?;
            if extent == Extent::Start {
                at_start(&mut session, Some(self.facts()), &environment, &Costs::default(), &mut report).await;
            } else {
                let mut catalog = self.connections.address.connect(CATALOG, &application()).await?;
                let facts = Some(self.facts());
                lasting(&mut session, Some(&mut catalog), facts, &environment, &Costs::default(), &mut report).await;
            }
            Ok::<_, sqlx::Error>(())
        };
        let looked = tokio::time::timeout(DEADLINE, looking).await;
        match looked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => report.none_seen(&sqlstate::sentence(&error)),
            Err(_) => report.none_seen("the server did not answer in time"),
        }
        report.sort();
        report
    }
}

/// What stays as it is for minutes.
async fn lasting(
    session: &mut PgConnection,
    catalog: Option<&mut PgConnection>,
    facts: Option<&ServerFacts>,
    environment: &Environment,
    costs: &Costs,
    report: &mut Examination,
) {
    at_start(session, facts, environment, costs, report).await;
    let done = state::workers(session, report).await;
    report.unless(&["workers"], done);
    let mut catalog = catalog;
    if let Some(facts) = facts {
        let done = disk::examine(session, facts, environment, costs, report).await;
        report.unless(&["disk"], done);
        let done = leftovers::examine(session, catalog.as_deref_mut(), facts, report).await;
        report.unless(&["leftovers"], done);
    }
    if let Some(catalog) = catalog {
        let done = limits::daemons(catalog, report).await;
        report.unless(&["daemons"], done);
        if let Some(facts) = facts {
            let done = reflink::examine(catalog, facts, costs, report).await;
            report.unless(&["reflink"], done);
        }
    }
}

async fn at_start(
    session: &mut PgConnection,
    facts: Option<&ServerFacts>,
    environment: &Environment,
    costs: &Costs,
    report: &mut Examination,
) {
    let done = settings::examine(session, costs, report).await;
    report.unless(&["settings"], done);
    match facts {
        Some(facts) => state::rights(facts, report),
        None => {
            OF_FACTS[1..].iter().for_each(|check| report.not_seen(check, "the role has no rights that pgdibs needs"))
        }
    }
    let done = state::collations(session, report).await;
    report.unless(&["collations"], done);
    let done = state::clock(session, environment, report).await;
    report.unless(&["clock"], done);
}

/// A session in the catalog, when a daemon of this version has served the server.
async fn catalog(
    address: &ServerAddress,
    session: &mut PgConnection,
    report: &mut Examination,
) -> Result<Option<PgConnection>, sqlx::Error> {
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(CATALOG)
        .fetch_one(session)
        .await?;
    let why = if exists {
        match inside(address).await {
            Ok(inside) => return Ok(Some(inside)),
            Err(error) if sqlstate::is_other_schema(&error) => {
                "another version of pgdibs made the server's catalog".to_owned()
            }
            Err(error) if sqlstate::class(&error) == sqlstate::ErrorClass::Unavailable => return Err(error),
            Err(error) => format!("the role cannot read the server's catalog: {}", sqlstate::sentence(&error)),
        }
    } else {
        "no daemon has served this server yet".to_owned()
    };
    for check in OF_CATALOG {
        report.not_seen(check, why.clone());
    }
    Ok(None)
}

async fn inside(address: &ServerAddress) -> Result<PgConnection, sqlx::Error> {
    let mut inside = address.connect(CATALOG, &application()).await?;
    sqlx::query("select from leases, announced_runs, templates, server_databases limit 0").execute(&mut inside).await?;
    Ok(inside)
}
