//! The inputs of fingerprints: recorded with a template, and compared with those of the template before it.

use pgdibs_core::inputs::{InputChanges, Inputs};
use pgdibs_core::name::Fingerprint;
use pgdibs_core::template::TemplateId;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::context::PgBackend;
use crate::rows::Columns as _;

/// Records the inputs unless the template has some, and how they differ from those of the template that the pool built last before it.
pub(crate) async fn record(
    backend: &PgBackend,
    template: TemplateId,
    inputs: &Inputs,
) -> Result<Option<InputChanges>, sqlx::Error> {
    let before = |row: PgRow| {
        let fingerprint = row.fingerprint()?;
        let lines: Vec<String> = row.try_get("inputs")?;
        Ok((fingerprint, lines))
    };
    let before: Option<(Fingerprint, Vec<String>)> = sqlx::query(
        "select b.fingerprint, b.inputs from templates t join templates b on b.pool = t.pool
         where t.id = $1 and (b.built_at, b.id) < (coalesce(t.built_at, 'infinity'), t.id) and b.inputs <> '{}'
         order by b.built_at desc, b.id desc limit 1",
    )
    .bind(template.0)
    .try_map(before)
    .fetch_optional(&backend.catalog())
    .await?;
    let changes = before.map(|(since, lines)| InputChanges::between(since, &parsed(&lines), inputs));
    let marked = |changes: &InputChanges| -> Vec<String> {
        let lists = [('~', &changes.changed), ('+', &changes.added), ('-', &changes.removed)];
        lists.into_iter().flat_map(|(mark, names)| names.iter().map(move |name| format!("{mark}{name}"))).collect()
    };
    sqlx::query(
        "update templates set inputs = $2, changed_since = $3, input_changes = $4, more_changes = $5
         where id = $1 and inputs = '{}'",
    )
    .bind(template.0)
    .bind(inputs.iter().map(|(name, hash)| format!("{hash} {name}")).collect::<Vec<_>>())
    .bind(changes.as_ref().map(|changes| changes.since.as_str()))
    .bind(changes.as_ref().map(marked).unwrap_or_default())
    .bind(changes.as_ref().map_or(0, |changes| i32::try_from(changes.more).unwrap_or(i32::MAX)))
    .execute(&backend.catalog())
    .await?;
    Ok(changes)
}

fn parsed(lines: &[String]) -> Inputs {
    let pairs = lines.iter().filter_map(|line| line.split_once(' '));
    pairs.map(|(hash, name)| (name.to_owned(), hash.to_owned())).collect()
}
