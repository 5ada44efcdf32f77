//! The doctor: what of a server slows tests down or breaks them, what it costs there, and the line that changes it.

mod finding;
mod disk;
mod leftovers;
mod limits;
mod probe;
mod settings;
mod state;

use std::time::Duration;

use secrecy::SecretString;
use sqlx::postgres::PgConnection;

pub use self::finding::{Examination, Finding, NotSeen, Severity};
use self::probe::{Costs, application};
use crate::address::{CATALOG, ConnectError, ServerAddress};
use crate::context::PgBackend;
use crate::facts::ServerFacts;
use crate::{connect, sqlstate};

/// Longer than any probe on a server that works; one that does not answer is reported, not waited for.
const DEADLINE: Duration = Duration::from_secs(20);

/// Looks at a server and measures on it: a few commits, and a database that is made and dropped.
pub async fn examine(url: &SecretString) -> Result<Examination, ConnectError> {
    let address = ServerAddress::parse(url)?;
    let looking = async {
        let mut report = Examination::default();
        if let Err(ConnectError::Unusable(why)) = connect::refuse_transaction_pooling(&address, "postgres").await {
            report.add(Finding::new("pooler", Severity::Error, why));
            return Ok(report);
        }
        let mut session = address.connect("postgres", &application()).await?;
        let facts = ServerFacts::read(&mut session).await?;
        let suspects = disk::suspects(&mut session, &facts).await?;
        let mut catalog = catalog(&address, &mut session, &mut report).await?;
        let costs = probe::measure(&mut session, &mut report).await?;
        at_start(&mut session, &facts, &costs, &mut report).await?;
        disk::examine(&mut session, &facts, &suspects, &costs, &mut report).await?;
        state::examine(&mut session, &mut report).await?;
        leftovers::examine(&mut session, catalog.as_mut(), &facts, &mut report).await?;
        if let Some(catalog) = &mut catalog {
            limits::examine(&address, catalog, &facts, &mut report).await?;
        }
        report.sort();
        Ok(report)
    };
    match tokio::time::timeout(DEADLINE, looking).await {
        Ok(Err(ConnectError::NotUp(why))) => Err(ConnectError::NotUp(format!("{}: {why}", address.shown()))),
        Ok(report) => report,
        Err(_) => Err(ConnectError::NotUp(format!("it did not answer the doctor within {} s", DEADLINE.as_secs()))),
    }
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

impl PgBackend {
    /// What a daemon says of its server when it starts: without probes, and nothing that is only a note.
    pub async fn server_warnings(&self) -> Vec<String> {
        let looking = async {
            let mut report = Examination::default();
            let mut session = self.connections.address.connect(CATALOG, &application()).await?;
            at_start(&mut session, self.facts(), &Costs::default(), &mut report).await?;
            report.sort();
            Ok(report)
        };
        let looked: Result<Examination, sqlx::Error> = looking.await;
        match looked {
            Ok(report) => {
                let severe = report.findings.iter().filter(|finding| finding.severity >= Severity::Warning);
                severe.map(Finding::sentence).collect()
            }
            Err(error) => vec![format!("the server's settings could not be read: {}", sqlstate::sentence(&error))],
        }
    }
}

async fn at_start(
    session: &mut PgConnection,
    facts: &ServerFacts,
    costs: &Costs,
    report: &mut Examination,
) -> Result<(), sqlx::Error> {
    settings::examine(session, costs, report).await?;
    state::rights(facts, report);
    state::collations(session, report).await
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
        let mut inside = address.connect(CATALOG, &application()).await?;
        let read = sqlx::query("select from leases, announced_runs, templates, server_databases limit 0");
        match read.execute(&mut inside).await {
            Ok(_) => return Ok(Some(inside)),
            Err(error) if sqlstate::is_other_schema(&error) => "another version of pgdibs made the server's catalog",
            Err(error) => return Err(error),
        }
    } else {
        "no daemon has served this server yet"
    };
    for check in ["connections", "locks", "daemons", "runs"] {
        report.not_seen(check, why);
    }
    Ok(None)
}
