//! Limits of the server beside what the present runs need: connections, locks, and workers.

use pgdibs_core::name::DatabaseName;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use super::environment::Environment;
use super::finding::{Examination, Finding, Severity};
use super::probe::application;
use crate::address::ServerAddress;
use crate::ddl::{self, ProbeDatabase};
use crate::facts::ServerFacts;
use crate::rows::Columns as _;
use crate::sqlstate::{self, ErrorClass};

/// A larger template is not cloned for a look.
const LARGEST_PROBE_BYTES: i64 = 200 << 20;

/// Runs that nothing has announced yet have about as many workers.
const USUAL_WORKERS: i64 = 8;

/// Returns the number of workers of the present runs.
pub(super) async fn workers(
    catalog: &mut PgConnection,
    facts: &ServerFacts,
    environment: &Environment,
    report: &mut Examination,
) -> Result<i64, sqlx::Error> {
    let workers = connections(catalog, facts, report).await?;
    runs(catalog, environment, report).await?;
    Ok(workers)
}

/// The workers of each present run, as announced or as leased, whichever are more. A lease without a run or a worker is one of its own.
/// A clause that begins a statement; the first half are the live leases.
macro_rules! present_runs {
    ($select:literal) => {
        concat!(
            "with held as (
                 select coalesce(l.run, l.id::text) as run, coalesce(l.worker, l.id::text) as worker, l.holder, d.oid
                 from leases l join databases d on d.id = l.database_id where l.state = 'live'),
             announced as (
                 select run, max(wanted) as workers from announced_runs
                 where put_at > now() - interval '60 s' or run in (select run from held) group by run),
             leased as (select run, count(distinct worker) as workers, array_agg(holder) as holders from held group by run),
             present as (
                 select run, greatest(a.workers, l.workers)::int8 as workers, holders
                 from announced a full join leased l using (run)) ",
            $select
        )
    };
}

async fn connections(
    catalog: &mut PgConnection,
    facts: &ServerFacts,
    report: &mut Examination,
) -> Result<i64, sqlx::Error> {
    let row = sqlx::query(present_runs!(
        "select (select coalesce(sum(workers), 0) from present)::int8 as workers,
                (select max(n) from (select count(*) as n from held h join pg_stat_activity a on a.datid::int8 = h.oid group by h.run, h.worker) per)::int8 as each,
                (select count(*) from pg_stat_activity where datid is not null and datid::int8 not in (select oid from held where oid is not null)
                     and application_name not like 'pgdibs-doctor%')::int8 as others"
    ))
    .fetch_one(catalog)
    .await?;
    let (workers, others): (i64, i64) = (row.try_get("workers")?, row.try_get("others")?);
    let Some(each) = row.try_get::<Option<i64>, _>("each")? else {
        report.not_seen("connections", "no lease has a session at present; ask again while tests run");
        return Ok(workers);
    };
    let needed = workers * each + others;
    if needed > i64::from(facts.max_connections) {
        report.add(
            Finding::new(
                "connections",
                Severity::Error,
                format!(
                    "max_connections leaves {} connections, but the present runs need {needed}: {workers} worker(s) × {each} session(s), measured on the busiest worker, and {others} of pgdibs and others",
                    facts.max_connections
                ),
            )
            .mended_by(ddl::shown_alter_system("max_connections", &(needed * 5 / 4 + 10).to_string(), true)),
        );
    }
    Ok(workers)
}

/// `drop schema … cascade` locks every object of the schema, in a table that all sessions share.
pub(super) async fn locks(
    address: &ServerAddress,
    catalog: &mut PgConnection,
    facts: &ServerFacts,
    workers: i64,
    report: &mut Examination,
) -> Result<(), sqlx::Error> {
    let template: Option<(DatabaseName, i64)> = sqlx::query(
        "select pool, name, size_bytes from templates where state = 'ready' and size_bytes is not null order by relations desc nulls last limit 1",
    )
    .try_map(|row: PgRow| Ok((row.database("name")?, row.try_get("size_bytes")?)))
    .fetch_optional(&mut *catalog)
    .await?;
    let Some((name, bytes)) = template else {
        report.not_seen("locks", "no template is ready");
        return Ok(());
    };
    if bytes > LARGEST_PROBE_BYTES {
        report.not_seen(
            "locks",
            format!("template {name} has {:.0} MB, too many for a clone to try it on", bytes as f64 / 1e6),
        );
        return Ok(());
    }
    let each = match locks_of_drop(address, catalog, &name).await {
        Ok(each) => each,
        Err(error) if sqlstate::class(&error) == ErrorClass::Unavailable => return Err(error),
        // Out of shared memory: not even one fits.
        Err(error) if sqlstate::code(&error).as_deref() == Some("53200") => {
            i64::try_from(facts.lock_entries).unwrap_or(i64::MAX)
        }
        Err(error) => {
            report.not_seen(
                "locks",
                format!("DROP SCHEMA could not be tried on a clone of {name}: {}", sqlstate::sentence(&error)),
            );
            return Ok(());
        }
    };
    let entries = i64::try_from(facts.lock_entries).unwrap_or(i64::MAX);
    let workers = workers.max(USUAL_WORKERS);
    let fit = entries / each.max(1);
    if fit < workers {
        let row = sqlx::query("select current_setting('max_locks_per_transaction')::int8 as locks")
            .fetch_one(catalog)
            .await?;
        let locks: i64 = row.try_get("locks")?;
        let enough = (locks * workers * each / entries.max(1) / 64 + 1) * 64;
        report.add(
            Finding::new(
                "locks",
                Severity::Warning,
                format!(
                    "max_locks_per_transaction = {locks} gives {entries} locks (times max_connections); DROP SCHEMA public CASCADE of template {name} takes {each}, measured on a clone, so {fit} at once fit, where {workers} workers may run one each (\"out of shared memory\")"
                ),
            )
            .mended_by(ddl::shown_alter_system("max_locks_per_transaction", &enough.to_string(), true)),
        );
    }
    Ok(())
}

/// On a clone, in a transaction that is rolled back.
async fn locks_of_drop(
    address: &ServerAddress,
    catalog: &mut PgConnection,
    template: &DatabaseName,
) -> Result<i64, sqlx::Error> {
    let probe = ProbeDatabase::of_process(std::process::id());
    ddl::create_probe_of(&probe, template).run(catalog).await?;
    let tried = async {
        ddl::open_probe(&probe).run(catalog).await?;
        let mut inside = address.connect(probe.as_str(), &application()).await?;
        let mut transaction = inside.begin().await?;
        ddl::drop_public_schema().run(&mut transaction).await?;
        let held: i64 = sqlx::query_scalar(
            "select count(*) from pg_locks where pid = pg_backend_pid() and locktype in ('relation', 'object')",
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.rollback().await?;
        inside.close().await?;
        Ok(held)
    };
    let tried: Result<i64, sqlx::Error> = tried.await;
    ddl::drop_database(&probe).run(catalog).await?;
    tried
}

/// Each daemon names its version on the connection by which it shows that it runs.
pub(super) async fn daemons(catalog: &mut PgConnection, report: &mut Examination) -> Result<(), sqlx::Error> {
    let versions: Vec<String> = sqlx::query_scalar(
        "select distinct substring(application_name from '^pgdibs-listener (.*)$') from pg_stat_activity
         where application_name like 'pgdibs-listener %' order by 1",
    )
    .fetch_all(catalog)
    .await?;
    if versions.len() > 1 {
        report.add(Finding::new(
            "daemons",
            Severity::Warning,
            format!(
                "daemons of different versions serve this server ({}): stop all, and start those of one version",
                versions.join(", ")
            ),
        ));
    }
    Ok(())
}

/// `-n auto` counts all cores of the machine for each run.
async fn runs(
    catalog: &mut PgConnection,
    environment: &Environment,
    report: &mut Examination,
) -> Result<(), sqlx::Error> {
    let Some(host) = &environment.host else {
        report.not_seen("runs", "this machine has no name that the holders of leases could have");
        return Ok(());
    };
    let (runs, workers): (i64, i64) = sqlx::query_as(present_runs!(
        "select count(*), coalesce(sum(workers), 0)::int8 from present
         where exists (select from unnest(holders) h where starts_with(h, $1 || '/'))"
    ))
    .bind(host)
    .fetch_one(catalog)
    .await?;
    let cores = i64::try_from(environment.cores).unwrap_or(i64::MAX);
    if runs > 1 && workers > cores {
        report.add(Finding::new(
            "runs",
            Severity::Note,
            format!("{runs} runs with {workers} workers together share the {cores} core(s) of this machine; `-n auto` counts all cores for each run: give each `-n {}`", (cores / runs).max(1)),
        ));
    }
    Ok(())
}
