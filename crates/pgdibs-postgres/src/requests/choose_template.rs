//! The template of a request that names none.

use pgdibs_core::error::Error;
use pgdibs_core::name::{Fingerprint, PoolName};
use sqlx::Row as _;

use super::templates;
use crate::context::PgBackend;
use crate::error::Result;
use crate::rows::Columns as _;

pub(crate) async fn choose_template(backend: &PgBackend, pool: &PoolName, run: Option<&str>) -> Result<Fingerprint> {
    let row = sqlx::query(include_str!("../../sql/choose_template.sql"))
        .bind(pool.as_str())
        .bind(run)
        .bind(backend.instance())
        .fetch_optional(&backend.catalog())
        .await?
        .ok_or_else(|| Error::pool_not_found(pool))?;
    for column in ["of_run", "current"] {
        if row.try_get::<Option<&str>, _>(column)?.is_none() {
            continue;
        }
        let fingerprint = row.parsed(column, |text| Fingerprint::parse(text).ok())?;
        let others: Vec<String> = row.try_get("others")?;
        if others.is_empty() {
            return Ok(fingerprint);
        }
        let (pool, current) = (pool.to_string(), fingerprint.to_string());
        return Err(Error::TemplateAmbiguous { pool, current, others }.into());
    }
    Err(no_template(backend, pool, None).await?.into())
}

/// The error for a pool without the template that a request needs: the named one, or any.
pub(super) async fn no_template(backend: &PgBackend, pool: &PoolName, named: Option<&Fingerprint>) -> Result<Error> {
    let what = match (named, templates::why_lost(backend, pool, named).await?) {
        (None, None) => "no template yet".to_owned(),
        (None, Some(why)) => format!("no template any more: {why}"),
        (Some(named), None) => format!("no template \"{named}\""),
        (Some(named), Some(why)) => format!("no template \"{named}\" any more: {why}"),
    };
    Ok(Error::TemplateNotFound(format!(
        "pool \"{pool}\" has {what}; PUT /v1/pools/{pool}/templates/<fingerprint> or `pgdibs template build {pool}` makes one"
    )))
}
