//! Collations: whether the server still sorts the text of a template as it did when the template was built.
//!
//! An upgrade of the server's image or of its libraries (glibc, ICU) changes how text sorts, and with it the order of every index on text.
//! Postgres records versions: of a database's own collation (15 and later), which every snapshot compares, and of the collations inside a
//! database, which only a session in it can read. A template whose collations changed is retired, never refreshed: `refresh version` would
//! only hide that its indexes are wrong.

use pgdibs_core::name::DatabaseName;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use crate::context::PgBackend;
use crate::ddl;
use crate::rows::Columns as _;
use crate::sqlstate::{self, ErrorClass};

/// The versions of the collations that the contents of this session's database use: as recorded there, and as the server's library has them.
/// `None`: none has a version.
///
/// Postgres records no dependency on collations with fixed oids, such as `unicode`, but each attribute, also of an index, names its collation. On
/// 14 the database's own collation counts too, of which that release records no version.
pub(crate) async fn read(inside: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "with used as materialized (
             select c.oid, c.collname::pg_catalog.text as name, c.collversion as recorded from pg_catalog.pg_collation c
             where c.collprovider <> 'd' and (
                 exists (select from pg_catalog.pg_depend d
                         where d.refclassid = 'pg_catalog.pg_collation'::pg_catalog.regclass and d.refobjid = c.oid)
                 or exists (select from pg_catalog.pg_attribute a where a.attcollation = c.oid and a.attrelid >= 16384::pg_catalog.oid)
                 or pg_catalog.current_setting('server_version_num'::pg_catalog.text) < '15' and c.collprovider = 'c'
                    and c.collcollate = (select b.datcollate from pg_catalog.pg_database b where b.datname = pg_catalog.current_database())))
         select pg_catalog.string_agg(pg_catalog.concat_ws(' '::pg_catalog.text, name, coalesce(recorded, 'unknown'), pg_catalog.pg_collation_actual_version(oid)),
                                      ', '::pg_catalog.text order by oid)
         from used where recorded is not null or pg_catalog.pg_collation_actual_version(oid) is not null",
    )
    .fetch_one(inside)
    .await
}

/// Reads the collations of each ready template that uses versioned ones, for a new leader, which is also what a restart of the server makes
/// of the present one. Before the first step: a session in a template delays its clones.
pub(crate) async fn check(backend: &PgBackend, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let templates: Vec<(i64, DatabaseName)> = sqlx::query(
        "select t.id, t.pool, t.name from templates t join server_databases s on s.oid = t.oid::oid and s.name = t.name::name
         where t.state = 'ready' and t.collations is not null and s.ours and not s.invalid",
    )
    .try_map(|row: PgRow| Ok((row.try_get("id")?, row.database("name")?)))
    .fetch_all(&mut *connection)
    .await?;
    for (id, name) in templates {
        if let Err(error) = check_template(backend, connection, id, &name).await {
            if sqlstate::class(&error) == ErrorClass::Unavailable {
                return Err(error);
            }
            tracing::warn!(template = %name, "cannot compare collation versions of template: {}", sqlstate::sentence(&error));
        }
    }
    Ok(())
}

async fn check_template(
    backend: &PgBackend,
    connection: &mut PgConnection,
    id: i64,
    name: &DatabaseName,
) -> Result<(), sqlx::Error> {
    ddl::bound_statements().then(ddl::allow_connections(name, true)).run(connection).await?;
    let reading = async {
        let mut inside = backend.connections.address.connect(name.as_str(), &backend.ddl_application()).await?;
        let found = read(&mut inside).await?;
        inside.close().await?;
        Ok(found)
    };
    let found: Result<Option<String>, sqlx::Error> = reading.await;
    ddl::bound_statements().then(ddl::allow_connections(name, false)).run(connection).await?;
    sqlx::query("update templates set collations_found = $2 where id = $1")
        .bind(id)
        .bind(found?)
        .execute(connection)
        .await?;
    Ok(())
}
