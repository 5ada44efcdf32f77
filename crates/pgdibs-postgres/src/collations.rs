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

/// What `sql/collations.sql` says of the database of this session.
pub(crate) async fn read(inside: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(include_str!("../sql/collations.sql")).fetch_one(inside).await
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
