//! Large templates whose clones copy every block, and what sharing blocks (reflink) would bring for them.

use pgdibs_core::plan::large::CostlyClones;
use pgdibs_core::template::{is_large, shares_blocks};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::finding::{Examination, Finding, Severity};
use super::probe::Costs;
use crate::facts::ServerFacts;
use crate::rows::Columns as _;

pub(super) async fn examine(
    catalog: &mut PgConnection,
    facts: &ServerFacts,
    costs: &Costs,
    report: &mut Examination,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "select pool, fingerprint, size_bytes, clone_bytes, clone_seconds from templates where state = 'ready' order by size_bytes desc nulls last",
    )
    .fetch_all(catalog)
    .await?;
    for row in rows {
        let size: Option<u64> = row.maybe_number("size_bytes")?;
        let shared = shares_blocks(size, row.maybe_number("clone_bytes")?);
        let Some(bytes) = size.filter(|_| is_large(size) && shared != Some(true)) else { continue };
        let seconds: Option<f64> = row.try_get("clone_seconds")?;
        let costly = CostlyClones {
            pool: row.pool()?,
            fingerprint: row.fingerprint()?,
            seconds,
            bytes,
            shared,
            clones_files: facts.clones_files,
        };
        let saved = costs.clone_seconds().zip(seconds).map(|(empty, seconds)| {
            format!(
                "sharing would save up to {:.1} s and {} MB for each clone: an empty database took {empty:.1} s here",
                (seconds - empty).max(0.0),
                bytes.div_ceil(1_000_000)
            )
        });
        report.add(Finding::new("reflink", Severity::Note, costly.to_string()).costing(saved));
    }
    Ok(())
}
