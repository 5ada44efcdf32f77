//! Reports of runs: kept for each pool of the run, the last ones of each pool.

use pgdibs_core::backend::REPORTS_KEPT;
use pgdibs_core::error::Error;
use pgdibs_core::name::{InvalidName, PoolName, shown};
use pgdibs_core::request::{ReportedRun, RunReport};
use pgdibs_core::template::TemplateId;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{inputs, pools};
use crate::context::PgBackend;
use crate::error::Result;
use crate::rows::Columns as _;

/// The pools of a run: the named one, and those that it leased from or announced. An ended run has its leases for 24 hours.
const STORE: &str = "with named as (
         select $2::text as pool union select pool from leases where run = $1 union select pool from announced_runs where run = $1),
     known as (select p.name from pools p join named n on n.pool = p.name where not p.dropping),
     stored as (
         insert into run_reports (run, pool, holder, figures) select $1, name, $3, $4::jsonb from known
         on conflict (run, pool) do update set holder = $3, figures = $4::jsonb, reported_at = now()
         returning pool),
     trimmed as (
         delete from run_reports r using known k
         where r.pool = k.name and not exists (select from run_reports s where s.run = $1 and s.pool = k.name)
           and r.id <= (select o.id from run_reports o where o.pool = k.name order by o.id desc offset $5 limit 1))
     select count(*) from stored";

pub(crate) async fn store(backend: &PgBackend, report: &RunReport) -> Result<()> {
    if let Some(pool) = &report.pool {
        pools::find(backend, pool).await?;
    }
    let stored: i64 = sqlx::query_scalar(STORE)
        .bind(&report.run)
        .bind(report.pool.as_ref().map(PoolName::as_str))
        .bind(&report.holder)
        .bind(&report.figures)
        .bind(i64::try_from(REPORTS_KEPT).unwrap_or(i64::MAX) - 1)
        .fetch_one(&backend.catalog())
        .await?;
    if stored == 0 {
        let rule =
            format!("must be named, because run \"{}\" has neither announced nor leased anything", shown(&report.run));
        return Err(Error::Invalid(InvalidName { field: "pool", rule }).into());
    }
    if !report.inputs.is_empty() {
        let unknown: Vec<i64> = sqlx::query_scalar(
            "select id from templates where inputs = '{}' and id in (select template_id from leases where run = $1)",
        )
        .bind(&report.run)
        .fetch_all(&backend.catalog())
        .await?;
        for template in unknown {
            inputs::record(backend, TemplateId(template), &report.inputs).await?;
        }
    }
    Ok(())
}

pub(crate) async fn list(backend: &PgBackend, pool: Option<&PoolName>) -> Result<Vec<ReportedRun>, sqlx::Error> {
    let read = |row: PgRow| {
        Ok(ReportedRun {
            run: row.try_get("run")?,
            pool: row.pool()?,
            holder: row.try_get("holder")?,
            figures: row.try_get("figures")?,
            reported_at: row.time("reported_at")?,
        })
    };
    sqlx::query(
        "select run, pool, holder, figures::text as figures, reported_at from run_reports
         where $1::text is null or pool = $1 order by reported_at desc, id desc",
    )
    .bind(pool.map(PoolName::as_str))
    .try_map(read)
    .fetch_all(&backend.catalog())
    .await
}
