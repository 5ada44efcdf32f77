//! What the server is and who works on it: rights, collations, the clock, and sessions that hold drops up.

use std::time::UNIX_EPOCH;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::environment::Environment;
use super::finding::{Examination, Finding, Severity};
use crate::drop_blockers::{self, DropBlocker};
use crate::facts::ServerFacts;
use crate::public_connect;
use crate::rights::Rights;

/// The newest major version that the tests run on.
const NEWEST_TESTED: u32 = 18;

const OLDEST: u32 = 14;

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
    let version = match facts.major {
        newer if newer > NEWEST_TESTED => (
            Severity::Warning,
            format!("Postgres {newer} is newer than {NEWEST_TESTED}, the newest that pgdibs was tested with"),
        ),
        older if older < OLDEST => {
            (Severity::Error, format!("Postgres {older} is older than {OLDEST}, which pgdibs needs"))
        }
        _ => return,
    };
    report.add(Finding::new("version", version.0, version.1));
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
    let changed: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "select datname::text, datcollversion, pg_database_collation_actual_version(oid) from pg_database
         where datcollversion is distinct from pg_database_collation_actual_version(oid) and datcollversion is not null order by 1",
    )
    .fetch_all(session)
    .await?;
    if let Some((name, recorded, actual)) = changed.first() {
        let names: Vec<&str> = changed.iter().map(|(name, ..)| name.as_str()).collect();
        let actual = actual.as_deref().unwrap_or("none");
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

pub(super) async fn clock(
    session: &mut PgConnection,
    environment: &Environment,
    report: &mut Examination,
) -> Result<(), sqlx::Error> {
    let now = || (environment.clock)().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
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

/// Sessions for which drops wait (see [`crate::drop_blockers`]). Returns whether there are some.
pub(super) async fn blockers(session: &mut PgConnection, report: &mut Examination) -> Result<bool, sqlx::Error> {
    if !has_role(session, "pg_read_all_stats").await? {
        report.not_seen("blockers", HIDDEN_SESSIONS);
        return Ok(false);
    }
    let found = drop_blockers::sessions(session, None).await?;
    let blocked = !found.is_empty();
    for DropBlocker { pid, role, database, seconds } in found {
        report.add(
            Finding::new(
                "blockers",
                Severity::Warning,
                format!("session {pid} of {role} in database {database} has waited for its client for {seconds:.0} s in the middle of a COPY or of sending rows; from Postgres 15 on all drops wait for it"),
            )
            .mended_by(format!("select pg_terminate_backend({pid})")),
        );
    }
    Ok(blocked)
}

const HIDDEN_SESSIONS: &str = "the role may not see what sessions of others do; a member of pg_read_all_stats may";

async fn has_role(session: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_has_role($1::name, 'usage')").bind(name).fetch_one(session).await
}

/// Background workers of extensions, which enter databases by themselves and so stand in the way of clones and drops.
pub(super) async fn workers(session: &mut PgConnection, report: &mut Examination) -> Result<(), sqlx::Error> {
    const ENTERS_DATABASES: [&str; 6] = ["timescaledb", "pg_cron", "pglogical", "pg_net", "powa", "pg_trickle"];
    /// Sessions of clients, and workers of the server that end by themselves.
    const SERVERS_OWN: [&str; 4] = ["client backend", "autovacuum worker", "parallel worker", "walsender"];
    if !has_role(session, "pg_read_all_stats").await? || !has_role(session, "pg_read_all_settings").await? {
        report.not_seen(
            "workers",
            "the role may not see shared_preload_libraries and what sessions of others do; a member of pg_monitor may",
        );
        return Ok(());
    }
    let row = sqlx::query(
        "select current_setting('shared_preload_libraries') as libraries,
                (select count(*) from pg_stat_activity where datid is not null and backend_type <> all ($1)) as count,
                (select string_agg(distinct backend_type || ' in ' || datname, ', ') from pg_stat_activity
                 where datid is not null and backend_type <> all ($1)) as workers",
    )
    .bind(SERVERS_OWN)
    .fetch_one(session)
    .await?;
    let libraries: String = row.try_get("libraries")?;
    let named: Vec<&str> = ENTERS_DATABASES.into_iter().filter(|name| libraries.contains(name)).collect();
    let (count, running): (i64, Option<String>) = (row.try_get("count")?, row.try_get("workers")?);
    let running = running.map(|names| format!("{count} background worker(s) have sessions in databases ({names})"));
    let loaded = (!named.is_empty())
        .then(|| format!("shared_preload_libraries has {}, whose workers enter databases", named.join(", ")));
    let found: Vec<String> = running.into_iter().chain(loaded).collect();
    if found.is_empty() {
        return Ok(());
    }
    let found = found.join("; ");
    report.add(Finding::new(
        "workers",
        Severity::Note,
        format!("{found}: a clone or a drop of a database that one has entered waits for up to 5 s and then fails; a server for tests goes without them where tests do not need them"),
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use pgdibs_core::name::RoleName;

    use super::*;

    /// Neither can be installed beside the tests.
    #[test]
    fn major_outside_of_the_tested_ones_is_found() {
        let found = |major| {
            let facts = ServerFacts {
                major,
                version: format!("{major}.1"),
                role: RoleName::parse("role", "postgres").unwrap(),
                rights: Rights::Superuser,
                max_connections: 97,
                lock_entries: 6400,
                prepares_transactions: false,
                non_durable: true,
                clones_files: true,
                data_directory: None,
                open_to_public: Vec::new(),
            };
            let mut report = Examination::default();
            rights(&facts, &mut report);
            report.findings.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!((found(OLDEST), found(NEWEST_TESTED)), (Vec::new(), Vec::new()));
        assert_eq!(found(13), ["error: Postgres 13 is older than 14, which pgdibs needs"]);
        assert_eq!(found(19), ["warning: Postgres 19 is newer than 18, the newest that pgdibs was tested with"]);
    }
}
