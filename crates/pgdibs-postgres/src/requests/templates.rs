//! Templates: who builds, signs of life, the wish for a seal, and the end of a build.

use pgdibs_core::error::Error;
use pgdibs_core::lease::Credentials;
use pgdibs_core::name::{DatabaseName, Fingerprint, PoolName, RoleName};
use pgdibs_core::request::{BuildPlace, TemplatePut};
use pgdibs_core::template::{Template, TemplateId, TemplateState, Timestamp};
use sqlx::Row as _;

use super::pools;
use crate::context::{PgBackend, answer};
use crate::failpoint::{Point, reach};
use crate::rows::{self, template_columns};
use crate::scram::new_password;

pub(crate) async fn put(
    backend: &PgBackend,
    pool: &PoolName,
    fingerprint: &Fingerprint,
    holder: &str,
    token: &str,
    built_by: Option<i32>,
) -> Result<TemplatePut, Error> {
    pools::find(backend, pool).await?;
    // Two rounds: between our insert's conflict and our look, the other's build may have failed and be gone.
    for _ in 0..2 {
        let found = answer(
            sqlx::query(concat!(
                "update templates t set last_used_at = now() where t.pool = $1 and t.fingerprint = $2 and t.state in ('building', 'ready')
                 returning t.token, ",
                template_columns!()
            ))
            .bind(pool.as_str())
            .bind(fingerprint.as_str())
            .fetch_optional(&backend.connections.catalog)
            .await,
        )?;
        if let Some(row) = found {
            let template = answer(rows::template(&row))?;
            return Ok(match template.state {
                TemplateState::Ready => TemplatePut::Ready(template),
                _ if row.try_get::<&str, _>("token").is_ok_and(|t| t == token) => TemplatePut::Yours(template),
                _ => TemplatePut::Building(template),
            });
        }
        let number: i64 =
            answer(sqlx::query_scalar("select nextval('numbers')").fetch_one(&backend.connections.catalog).await)?;
        let row = answer(
            sqlx::query(concat!(
                "insert into templates as t (id, pool, fingerprint, state, name, token, holder, password, built_by)
                 select $1, name, $3, 'building', $4, $5, $6, ",
                new_password!(),
                ", $7 from pools where name = $2 and not dropping
                 on conflict (pool, fingerprint) where state in ('building', 'ready') do nothing
                 returning ",
                template_columns!()
            ))
            .bind(number)
            .bind(pool.as_str())
            .bind(fingerprint.as_str())
            .bind(DatabaseName::build(pool, number).as_str())
            .bind(token)
            .bind(holder)
            .bind(built_by)
            .fetch_optional(&backend.connections.catalog)
            .await,
        )?;
        if let Some(row) = row {
            // What an earlier, failed build of the same fingerprint left is its database at most; the new row speaks now.
            reach(Point::BuildRequested).await;
            return Ok(TemplatePut::Yours(answer(rows::template(&row))?));
        }
    }
    Err(Error::ServerUnavailable(format!("template \"{fingerprint}\" changes hands; ask again")))
}

/// A template that is building or ready.
pub(crate) async fn find_live(
    backend: &PgBackend,
    pool: &PoolName,
    fingerprint: &Fingerprint,
) -> Result<Template, Error> {
    let row = answer(
        sqlx::query(concat!(
            "select ",
            template_columns!(),
            " from templates t where t.pool = $1 and t.fingerprint = $2 and t.state in ('building', 'ready')"
        ))
        .bind(pool.as_str())
        .bind(fingerprint.as_str())
        .fetch_optional(&backend.connections.catalog)
        .await,
    )?;
    match row {
        Some(row) => answer(rows::template(&row)),
        None => Err(Error::TemplateNotFound(format!(
            "pool \"{pool}\" has no template \"{fingerprint}\"; PUT /v1/pools/{pool}/templates/<fingerprint> makes the caller its builder"
        ))),
    }
}

/// The template that carries a build token, or why there is none.
async fn with_token(
    backend: &PgBackend,
    pool: &PoolName,
    fingerprint: &Fingerprint,
    token: &str,
) -> Result<Template, Error> {
    let row = answer(
        sqlx::query(concat!(
            "select ",
            template_columns!(),
            " from templates t where t.pool = $1 and t.fingerprint = $2 and t.token = $3"
        ))
        .bind(pool.as_str())
        .bind(fingerprint.as_str())
        .bind(token)
        .fetch_optional(&backend.connections.catalog)
        .await,
    )?;
    if let Some(row) = row {
        return answer(rows::template(&row));
    }
    pools::find(backend, pool).await?;
    let known: bool = answer(
        sqlx::query_scalar("select exists (select from templates where pool = $1 and fingerprint = $2)")
            .bind(pool.as_str())
            .bind(fingerprint.as_str())
            .fetch_one(&backend.connections.catalog)
            .await,
    )?;
    if known {
        Err(Error::BuildTokenStale("another builder has this template, or had it since".to_owned()))
    } else {
        Err(Error::TemplateNotFound(format!("pool \"{pool}\" has no template \"{fingerprint}\"")))
    }
}

pub(crate) async fn place(backend: &PgBackend, id: TemplateId, token: &str) -> Result<Option<BuildPlace>, Error> {
    let row = answer(
        sqlx::query(
            "select state, name, pool, oid is not null as created, password, detail,
                    (extract(epoch from build_heard_at + interval '60 s') * 1000000)::int8 as expires_at
             from templates where id = $1 and token = $2",
        )
        .bind(id.0)
        .bind(token)
        .fetch_optional(&backend.connections.catalog)
        .await,
    )?;
    let Some(row) = row else {
        return Err(Error::BuildTokenStale("the build is gone".to_owned()));
    };
    let column = |name: &str| answer(row.try_get::<String, _>(name));
    match column("state")?.as_str() {
        "building" => {}
        "failed" => {
            let detail: Option<String> = answer(row.try_get("detail"))?;
            return Err(Error::TemplateFailed(detail.unwrap_or_else(|| "the build failed".to_owned())));
        }
        _ => return Err(Error::BuildTokenStale("the build is over".to_owned())),
    }
    if !answer(row.try_get::<bool, _>("created"))? {
        return Ok(None);
    }
    let broken = |_| Error::Internal("the catalog holds an impossible name".to_owned());
    let pool = PoolName::parse(&column("pool")?).map_err(broken)?;
    let database = DatabaseName::recognise(&pool, &column("name")?)
        .ok_or_else(|| Error::Internal("the catalog holds an impossible name".to_owned()))?;
    let credentials = Credentials { user: RoleName::login(id.0).to_string(), password: column("password")?.into() };
    Ok(Some(BuildPlace {
        template: id,
        database,
        credentials,
        expires_at: Timestamp(answer(row.try_get("expires_at"))?),
    }))
}

pub(crate) async fn renew(
    backend: &PgBackend,
    pool: &PoolName,
    fingerprint: &Fingerprint,
    token: &str,
) -> Result<Template, Error> {
    let template = with_token(backend, pool, fingerprint, token).await?;
    if template.state != TemplateState::Building {
        return Err(not_building(&template));
    }
    answer(
        sqlx::query("update templates set build_heard_at = now() where id = $1 and token = $2 and state = 'building'")
            .bind(template.id.0)
            .bind(token)
            .execute(&backend.connections.catalog)
            .await,
    )?;
    Ok(template)
}

/// Why a template is not the caller's to build any more.
fn not_building(template: &Template) -> Error {
    match template.state {
        TemplateState::Failed => {
            Error::BuildTokenStale(template.detail.clone().unwrap_or_else(|| "the build failed".to_owned()))
        }
        state => Error::TemplateNotBuilding(format!(
            "template \"{}\" is {}, not building",
            template.fingerprint,
            state.as_str()
        )),
    }
}

pub(crate) async fn request_seal(
    backend: &PgBackend,
    pool: &PoolName,
    fingerprint: &Fingerprint,
    token: &str,
) -> Result<Template, Error> {
    let template = with_token(backend, pool, fingerprint, token).await?;
    match template.state {
        TemplateState::Building => {
            answer(
                sqlx::query(
                    "update templates set seal_requested_at = coalesce(seal_requested_at, now()), build_heard_at = now()
                     where id = $1 and token = $2 and state = 'building'",
                )
                .bind(template.id.0)
                .bind(token)
                .execute(&backend.connections.catalog)
                .await,
            )?;
            reach(Point::SealRequested).await;
            Ok(template)
        }
        TemplateState::Ready => Ok(template),
        // A seal that failed is told as such; a build that was lost before is a stale token.
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
) -> Result<(), Error> {
    let template = with_token(backend, pool, fingerprint, token).await?;
    match template.state {
        TemplateState::Building => answer(
            sqlx::query(
                // What a builder's tool has printed may hold its URL, and the detail is shown to every caller.
                "update templates set state = 'failed', detail = replace($3, password, '********'), last_used_at = now()
                 where id = $1 and token = $2 and state = 'building'",
            )
            .bind(template.id.0)
            .bind(token)
            .bind(detail)
            .execute(&backend.connections.catalog)
            .await
            .map(|_| ()),
        ),
        _ => Err(not_building(&template)),
    }
}

pub(crate) async fn mark_retiring(
    backend: &PgBackend,
    pool: &PoolName,
    fingerprint: &Fingerprint,
) -> Result<(), Error> {
    pools::find(backend, pool).await?;
    let template = find_live(backend, pool, fingerprint).await?;
    let mut transaction = answer(backend.connections.begin("begin").await)?;
    // An acquire locks the template's row as well, so none can slip in between.
    answer(
        sqlx::query("select from templates where id = $1 for update")
            .bind(template.id.0)
            .execute(&mut *transaction)
            .await,
    )?;
    let holders: Vec<String> = answer(
        sqlx::query_scalar(
            "select coalesce(nullif(holder, ''), worker, 'somebody') from leases where template_id = $1 and state = 'live'",
        )
        .bind(template.id.0)
        .fetch_all(&mut *transaction)
        .await,
    )?;
    if !holders.is_empty() {
        return Err(Error::TemplateInUse { live: holders.len(), holders: holders.join(", ") });
    }
    answer(
        sqlx::query(
            "update templates set state = case when state = 'building' then 'failed' else 'retiring' end,
                    detail = 'dropped by request' where id = $1 and state in ('building', 'ready')",
        )
        .bind(template.id.0)
        .execute(&mut *transaction)
        .await,
    )?;
    // Its waiters learn of it at their next look, and a look comes with every change.
    answer(
        sqlx::query("delete from tickets where template_id = $1").bind(template.id.0).execute(&mut *transaction).await,
    )?;
    answer(transaction.commit().await)
}
