//! What the server is and who works on it: rights, collations, the clock, and sessions that hold drops up.

use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::finding::{Examination, Finding, Severity};
use crate::facts::ServerFacts;
use crate::public_connect;
use crate::rights::Rights;

/// The newest major version that the tests run on.
const NEWEST_TESTED: u32 = 18;

/// Leases expire, and kept databases go, by the server's clock; people read times by their own.
const MOST_SKEW_SECONDS: f64 = 2.0;

pub(super) fn rights(facts: &ServerFacts, report: &mut Examination) {
    if facts.rights == Rights::DatabasesAndRoles {
        report.add(
            Finding::new(
                "rights",
                Severity::Warning,
                format!(
                    "role \"{}\" is no superuser: untrusted extensions cannot be made for templates, and a superuser's session in a database of pgdibs cannot be ended",
                    facts.role
                ),
            )
            .mended_by(format!("alter role \"{}\" superuser", facts.role)),
        );
    }
    if let Some(text) = public_connect::warning(&facts.open_to_public) {
        report.add(Finding::new("public", Severity::Warning, text));
    }
    if facts.major > NEWEST_TESTED {
        let text =
            format!("Postgres {} is newer than {NEWEST_TESTED}, the newest that pgdibs was tested with", facts.major);
        report.add(Finding::new("version", Severity::Warning, text));
    }
}

/// Databases that sort otherwise than when they were made. Their indexes on text may be wrong, and Postgres clones none of them.
pub(super) async fn collations(session: &mut PgConnection, report: &mut Examination) -> Result<(), sqlx::Error> {
    // The column and the function exist from 15 on.
    let major: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int4 / 10000")
        .fetch_one(&mut *session)
        .await?;
    if major < 15 {
        report.not_seen("collations", "Postgres 14 records no collation version of a database");
        return Ok(());
    }
    let changed: Vec<(String, String, String)> = sqlx::query_as(
        "select datname::text, datcollversion, pg_database_collation_actual_version(oid) from pg_database
         where datcollversion is distinct from pg_database_collation_actual_version(oid) and datcollversion is not null order by 1",
    )
    .fetch_all(session)
    .await?;
    if let Some((name, recorded, actual)) = changed.first() {
        let names: Vec<&str> = changed.iter().map(|(name, ..)| name.as_str()).collect();
        report.add(
            Finding::new(
                "collations",
                Severity::Warning,
                format!(
                    "the server's libraries sort text as version {actual}, but these databases were made with version {recorded}: {}; their indexes on text may miss rows, and Postgres clones none of them",
                    names.join(", ")
                ),
            )
            .mended_by(format!("reindexdb '{name}' && psql -d '{name}' -c 'alter database \"{name}\" refresh collation version'")),
        );
    }
    Ok(())
}

pub(super) async fn examine(session: &mut PgConnection, report: &mut Examination) -> Result<(), sqlx::Error> {
    clock(session, report).await?;
    blockers(session, report).await?;
    workers(session, report).await
}

async fn clock(session: &mut PgConnection, report: &mut Examination) -> Result<(), sqlx::Error> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let before = now();
    let server: f64 =
        sqlx::query_scalar("select extract(epoch from clock_timestamp())::float8").fetch_one(session).await?;
    let after = now();
    // Between the two, if the clocks agree.
    let skew = if server < before { server - before } else { (server - after).max(0.0) };
    if skew.abs() > MOST_SKEW_SECONDS {
        let direction = if skew > 0.0 { "ahead of" } else { "behind" };
        report.add(Finding::new(
            "clock",
            Severity::Warning,
            format!(
                "the server's clock is {:.0} s {direction} this machine's; leases and kept databases end by the server's clock: set both by NTP",
                skew.abs()
            ),
        ));
    }
    Ok(())
}

/// From Postgres 15 on `drop database` waits for every session of the server to answer a signal; one in the middle of a COPY, or whose client
/// does not read, does not answer.
async fn blockers(session: &mut PgConnection, report: &mut Examination) -> Result<(), sqlx::Error> {
    let found: Vec<(i32, String, String, f64)> = sqlx::query_as(
        "select pid, coalesce(usename, '')::text, coalesce(datname, '')::text, extract(epoch from now() - query_start)::float8
         from pg_stat_activity
         where state = 'active' and wait_event in ('ClientRead', 'ClientWrite') and query_start < now() - interval '1 s'
         order by query_start limit 3",
    )
    .fetch_all(session)
    .await?;
    for (pid, user, database, seconds) in found {
        report.add(
            Finding::new(
                "blockers",
                Severity::Warning,
                format!("session {pid} of {user} in database {database} has waited for its client for {seconds:.0} s in the middle of a COPY or of sending rows; from Postgres 15 on all drops wait for it"),
            )
            .mended_by(format!("select pg_terminate_backend({pid})")),
        );
    }
    Ok(())
}

/// Background workers of extensions, which enter databases by themselves and so stand in the way of clones and drops.
async fn workers(session: &mut PgConnection, report: &mut Examination) -> Result<(), sqlx::Error> {
    const ENTERS_DATABASES: [&str; 6] = ["timescaledb", "pg_cron", "pglogical", "pg_net", "powa", "pg_trickle"];
    let row = sqlx::query(
        "select coalesce((select setting from pg_settings where name = 'shared_preload_libraries'), '') as libraries,
                (select string_agg(distinct backend_type, ', ') from pg_stat_activity
                 where datid is not null and backend_type not in ('client backend', 'autovacuum worker', 'parallel worker', 'walsender')) as workers",
    )
    .fetch_one(session)
    .await?;
    let libraries: String = row.try_get("libraries")?;
    let named = ENTERS_DATABASES.iter().find(|name| libraries.contains(**name));
    let running: Option<String> = row.try_get("workers")?;
    let found = match (named, running) {
        (_, Some(running)) => format!("background workers have sessions in databases ({running})"),
        (Some(name), None) => format!("shared_preload_libraries has {name}, whose workers enter databases"),
        (None, None) => return Ok(()),
    };
    report.add(Finding::new(
        "workers",
        Severity::Note,
        format!("{found}: a clone or a drop of a database that one has entered waits for up to 5 s and then fails; a server for tests goes without them where tests do not need them"),
    ));
    Ok(())
}
