//! The extensions of a build, and what only superusers may own.
//!
//! A trusted extension, and one that needs no superuser, is created as the pool's owner, so that migrations and tests may alter and drop it.
//! The daemon creates the others and keeps them: an owner of such an extension could change functions that run with a superuser's rights.
//! The pool's owner may then change the rows of their tables (a dump of PostGIS has rows of `spatial_ref_sys`).

use pgdibs_core::name::RoleName;
use pgdibs_core::pool::Extension;
use sqlx::postgres::PgConnection;

use crate::ddl;
use crate::error::{Result, failed};
use crate::sqlstate;

/// An extension to create; those that others require come before them.
#[derive(sqlx::FromRow)]
struct Wanted {
    name: String,
    schema: Option<String>,
    /// The pool lists it; otherwise another one requires it.
    listed: bool,
    /// The owner may create it.
    by_owner: bool,
}

/// Creates extensions with those that they require, before any other role has been in the database.
pub(super) async fn create(inside: &mut PgConnection, extensions: &[Extension], owner: &RoleName) -> Result<()> {
    for one in in_order(inside, extensions).await? {
        if let Err(error) = create_one(inside, &one, owner).await {
            return Err(failed(format!(
                "extension \"{}\" (pool setting `extensions`) cannot be made: {}",
                one.name,
                sqlstate::sentence(&error)
            )));
        }
    }
    Ok(())
}

async fn in_order(inside: &mut PgConnection, extensions: &[Extension]) -> Result<Vec<Wanted>, sqlx::Error> {
    if extensions.is_empty() {
        return Ok(Vec::new());
    }
    let (names, schemas): (Vec<&str>, Vec<Option<&str>>) =
        extensions.iter().map(|one| (one.name.as_str(), one.schema.as_deref())).unzip();
    sqlx::query_as(include_str!("../../sql/extensions.sql")).bind(names).bind(schemas).fetch_all(inside).await
}

async fn create_one(inside: &mut PgConnection, wanted: &Wanted, owner: &RoleName) -> Result<(), sqlx::Error> {
    let extension = Extension { name: wanted.name.clone(), schema: wanted.schema.clone() };
    if let Some(schema) = &extension.schema {
        let exists: bool = sqlx::query_scalar(
            "select exists (select from pg_catalog.pg_namespace where nspname = $1::pg_catalog.name)",
        )
        .bind(schema)
        .fetch_one(&mut *inside)
        .await?;
        if !exists {
            ddl::create_schema(schema, owner).run(inside).await?;
        }
    }
    let create = ddl::create_extension(&extension);
    if wanted.by_owner {
        return ddl::act_as(owner).then(create).then(ddl::act_as_oneself()).run(inside).await;
    }
    create.run(inside).await?;
    let members: Vec<(String, String, String)> = sqlx::query_as(include_str!("../../sql/extension_members.sql"))
        .bind(&wanted.name)
        .bind(owner.as_str())
        .bind(wanted.listed)
        .fetch_all(&mut *inside)
        .await?;
    let grants = members.iter().map(|(kind, schema, name)| ddl::grant_member(kind, schema, name, owner));
    grants.fold(ddl::Ddl::default(), ddl::Ddl::then).run(inside).await
}

/// Gives what a superuser built, and no other role may own, to the daemon's role; the rest goes to the pool's owner.
pub(super) async fn keep_for_superusers(inside: &mut PgConnection, builder: &RoleName) -> Result<(), sqlx::Error> {
    let found: Vec<(String, String)> = sqlx::query_as(
        "select kind, name::pg_catalog.text from (
             select 'event trigger' as kind, evtname as name, evtowner as owner from pg_catalog.pg_event_trigger
             union all select 'foreign data wrapper', fdwname, fdwowner from pg_catalog.pg_foreign_data_wrapper
             union all select 'subscription', s.subname, s.subowner from pg_catalog.pg_subscription s
                 join pg_catalog.pg_database d on d.oid = s.subdbid and d.datname = pg_catalog.current_database()) as owned
         join pg_catalog.pg_roles r on r.oid = owned.owner where r.rolname = $1::pg_catalog.name and r.rolsuper",
    )
    .bind(builder.as_str())
    .fetch_all(&mut *inside)
    .await?;
    let owned = found.iter().map(|(kind, name)| ddl::own_as_superuser(kind, name));
    owned.fold(ddl::Ddl::default(), ddl::Ddl::then).run(inside).await
}
