//! Templates: the builder, its heartbeats, the request for a seal, and the end of a build.

use pgdibs_core::error::Error;
use pgdibs_core::lease::Credentials;
use pgdibs_core::name::{DatabaseName, Fingerprint, PoolName, RoleName};
use pgdibs_core::request::{BuildPlace, TemplatePut};
use pgdibs_core::template::{Template, TemplateId, TemplateState};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{next_number, pools};
use crate::context::PgBackend;
use crate::error::{PgError, Result};
use crate::rows::{self, Columns as _};
use pgdibs_failpoint::{Failpoint, reach};

pub(crate) async fn put(
    backend: &PgBackend,
    pool: &PoolName,
    fingerprint: &Fingerprint,
    holder: &str,
    token: &str,
    built_by: Option<i32>,
    copy_of: Option<&str>,
) -> Result<TemplatePut> {
    pools::find(backend, pool).await?;
    if built_by.is_none() {
        // The daemon's own PUT, every few seconds, is no use of the pool.
        let used = "update pools set used_at = now() where name = $1 and used_at < now() - interval '10 s'";
        sqlx::query(used).bind(pool.as_str()).execute(&backend.catalog()).await?;
    }
    // The second round reads what the first one inserted. The third: after the insert met another's build, that one may have failed.
    for _ in 0..3 {
        // Not at each PUT: a daemon repeats its own every two seconds, and each update leaves a dead row.
        sqlx::query(
            "update templates set last_used_at = now() where pool = $1 and fingerprint = $2 and state in ('building', 'ready')
               and last_used_at < now() - interval '4 s'",
        )
        .bind(pool.as_str())
        .bind(fingerprint.as_str())
        .execute(&backend.catalog())
        .await?;
        if let Some((template, its_token)) = live(backend, pool, fingerprint).await? {
            return Ok(match template.state {
                TemplateState::Ready => {
                    if built_by.is_none() {
                        make_current(backend, &template).await?;
                    }
                    TemplatePut::Ready(template)
                }
                _ if its_token == token => TemplatePut::Yours(template),
                _ => TemplatePut::Building(template),
            });
        }
        let number = next_number(backend).await?;
        let inserted = sqlx::query(
            "insert into templates (id, pool, fingerprint, state, name, token, holder, built_by, copy_of)
             select $1, name, $3, 'building', $4, $5, $6, $7, $8 from pools where name = $2 and not dropping
             on conflict (pool, fingerprint) where state in ('building', 'ready') do nothing",
        )
        .bind(number)
        .bind(pool.as_str())
        .bind(fingerprint.as_str())
        .bind(DatabaseName::build(pool, number).as_str())
        .bind(token)
        .bind(holder)
        .bind(built_by)
        .bind(copy_of)
        .execute(&backend.catalog())
        .await?;
        if inserted.rows_affected() == 1 {
            reach(Failpoint::BuildRequested).await;
        }
    }
    Err(Error::ServerUnavailable(format!("template \"{fingerprint}\" changes hands; ask again")).into())
}

/// Requests without fingerprint get this template from now on.
pub(crate) async fn make_current(backend: &PgBackend, template: &Template) -> Result<()> {
    sqlx::query("update pools set current_template = $2 where name = $1 and current_template is distinct from $2")
        .bind(template.pool.as_str())
        .bind(template.id.0)
        .execute(&backend.catalog())
        .await?;
    Ok(())
}

/// The template that is building or ready, with its build token.
async fn live(
    backend: &PgBackend,
    pool: &PoolName,
    fingerprint: &Fingerprint,
) -> Result<Option<(Template, String)>, sqlx::Error> {
    let with_token = |row: PgRow| {
        let token = row.try_get("token")?;
        Ok((rows::template(row)?, token))
    };
    sqlx::query(
        "select * from template_details where pool = $1 and fingerprint = $2 and state in ('building', 'ready')",
    )
    .bind(pool.as_str())
    .bind(fingerprint.as_str())
    .try_map(with_token)
    .fetch_optional(&backend.catalog())
    .await
}

/// A template that is building or ready.
pub(crate) async fn find_live(backend: &PgBackend, pool: &PoolName, fingerprint: &Fingerprint) -> Result<Template> {
    match live(backend, pool, fingerprint).await? {
        Some((template, _)) => Ok(template),
        None => Err(Error::TemplateNotFound(format!(
            "pool \"{pool}\" has no template \"{fingerprint}\"; PUT /v1/pools/{pool}/templates/<fingerprint> makes the caller its builder"
        ))
        .into()),
    }
}

/// The template that has this build token, or why there is none.
async fn with_token(backend: &PgBackend, pool: &PoolName, fingerprint: &Fingerprint, token: &str) -> Result<Template> {
    let template =
        sqlx::query("select * from template_details t where t.pool = $1 and t.fingerprint = $2 and t.token = $3")
            .bind(pool.as_str())
            .bind(fingerprint.as_str())
            .bind(token)
            .try_map(rows::template)
            .fetch_optional(&backend.catalog())
            .await?;
    if let Some(template) = template {
        return Ok(template);
    }
    pools::find(backend, pool).await?;
    let known: bool = sqlx::query_scalar("select exists (select from templates where pool = $1 and fingerprint = $2)")
        .bind(pool.as_str())
        .bind(fingerprint.as_str())
        .fetch_one(&backend.catalog())
        .await?;
    Err(PgError::Request(if known {
        Error::BuildTokenStale("another builder has this template, or had it since".to_owned())
    } else {
        Error::TemplateNotFound(format!("pool \"{pool}\" has no template \"{fingerprint}\""))
    }))
}

pub(crate) async fn place(backend: &PgBackend, id: TemplateId, token: &str) -> Result<Option<BuildPlace>> {
    let row = sqlx::query(
        "select state, name, pool, oid is not null as created, password, detail, build_heard_at + interval '60 s' as expires_at
         from templates where id = $1 and token = $2",
    )
    .bind(id.0)
    .bind(token)
    .fetch_optional(&backend.catalog())
    .await?
    .ok_or_else(|| Error::BuildTokenStale("the build was deleted".to_owned()))?;
    match row.try_get("state")? {
        "building" => {}
        "failed" => {
            let detail: Option<String> = row.try_get("detail")?;
            return Err(Error::TemplateFailed(detail.unwrap_or_else(|| "the build failed".to_owned())).into());
        }
        _ => return Err(Error::BuildTokenStale("the build has ended".to_owned()).into()),
    }
    if !row.try_get("created")? {
        return Ok(None);
    }
    Ok(Some(BuildPlace {
        template: id,
        database: row.database("name")?,
        credentials: Credentials {
            user: RoleName::login(id.0).to_string(),
            password: row.try_get::<String, _>("password")?.into(),
        },
        expires_at: row.time("expires_at")?,
    }))
}

pub(crate) async fn renew(
    backend: &PgBackend,
    pool: &PoolName,
    fingerprint: &Fingerprint,
    token: &str,
) -> Result<Template> {
    let template = with_token(backend, pool, fingerprint, token).await?;
    if template.state != TemplateState::Building {
        return Err(not_building(&template));
    }
    sqlx::query("update templates set build_heard_at = now() where id = $1 and token = $2 and state = 'building'")
        .bind(template.id.0)
        .bind(token)
        .execute(&backend.catalog())
        .await?;
    Ok(template)
}

fn not_building(template: &Template) -> PgError {
    PgError::Request(match template.state {
        TemplateState::Failed => {
            Error::BuildTokenStale(template.detail.clone().unwrap_or_else(|| "the build failed".to_owned()))
        }
        state => Error::TemplateNotBuilding(format!(
            "template \"{}\" is {}, not building",
            template.fingerprint,
            state.as_str()
        )),
    })
}

pub(crate) async fn request_seal(
    backend: &PgBackend,
    pool: &PoolName,
    fingerprint: &Fingerprint,
    token: &str,
) -> Result<Template> {
    let template = with_token(backend, pool, fingerprint, token).await?;
    match template.state {
        TemplateState::Building => {
            sqlx::query(
                "update templates set seal_requested_at = coalesce(seal_requested_at, now()), build_heard_at = now()
                 where id = $1 and token = $2 and state = 'building'",
            )
            .bind(template.id.0)
            .bind(token)
            .execute(&backend.catalog())
            .await?;
            reach(Failpoint::SealRequested).await;
            Ok(template)
        }
        TemplateState::Ready => Ok(template),
        // The caller reads in the template that the seal failed. The token of a build that failed before it is stale.
        TemplateState::Failed if template.seal_requested => Ok(template),
        _ => Err(not_building(&template)),
    }
}

pub(crate) async fn abandon(
    backend: &PgBackend,
    pool: &PoolName,
    fingerprint: &Fingerprint,
    token: &str,
    detail: &str,
) -> Result<()> {
    let template = with_token(backend, pool, fingerprint, token).await?;
    if template.state != TemplateState::Building {
        return Err(not_building(&template));
    }
    // The output of a builder's tool may have its URL in it, and every caller reads the detail.
    sqlx::query(
        "update templates set state = 'failed', detail = replace($3, password, '********'), last_used_at = now()
         where id = $1 and token = $2 and state = 'building'",
    )
    .bind(template.id.0)
    .bind(token)
    .bind(detail)
    .execute(&backend.catalog())
    .await?;
    Ok(())
}

/// The output of a build that a daemon ran.
pub(crate) async fn log(backend: &PgBackend, id: TemplateId) -> Result<Option<String>> {
    let log: Option<Option<String>> = sqlx::query_scalar("select log from templates where id = $1")
        .bind(id.0)
        .fetch_optional(&backend.catalog())
        .await?;
    Ok(log.flatten())
}

pub(crate) async fn keep_log(backend: &PgBackend, id: TemplateId, log: &str) -> Result<()> {
    sqlx::query("update templates set log = $2 where id = $1").bind(id.0).bind(log).execute(&backend.catalog()).await?;
    Ok(())
}

pub(crate) async fn mark_retiring(backend: &PgBackend, pool: &PoolName, fingerprint: &Fingerprint) -> Result<()> {
    pools::find(backend, pool).await?;
    let template = find_live(backend, pool, fingerprint).await?.id.0;
    let mut transaction = backend.transaction().await?;
    // An acquire locks the template's row as well, so none grants a lease in between.
    sqlx::query("select from templates where id = $1 for update").bind(template).execute(&mut *transaction).await?;
    let holders: Vec<String> = sqlx::query_scalar(
        "select coalesce(nullif(holder, ''), worker, 'an unnamed holder') from leases where template_id = $1 and state = 'live'",
    )
    .bind(template)
    .fetch_all(&mut *transaction)
    .await?;
    if !holders.is_empty() {
        return Err(Error::TemplateInUse { live: holders.len(), holders: holders.join(", ") }.into());
    }
    sqlx::query(
        "update templates set state = case when state = 'building' then 'failed' else 'retiring' end,
                detail = 'dropped by request' where id = $1 and state in ('building', 'ready')",
    )
    .bind(template)
    .execute(&mut *transaction)
    .await?;
    // Its waiters try again after every change, and find no template then.
    sqlx::query("delete from tickets where template_id = $1").bind(template).execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

/// Why a template that was ready is there no more, for callers that ask for it: the row of one that failed after its build.
pub(crate) async fn why_lost(
    backend: &PgBackend,
    pool: &PoolName,
    fingerprint: Option<&Fingerprint>,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select detail from templates where pool = $1 and state = 'failed' and built_at is not null
           and ($2::text is null or fingerprint = $2) order by id desc limit 1",
    )
    .bind(pool.as_str())
    .bind(fingerprint.map(Fingerprint::as_str))
    .fetch_optional(&backend.catalog())
    .await
}
