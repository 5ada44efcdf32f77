//! The catalog's own database: created closed, opened to the daemon alone, and migrated as a whole.

use sqlx::Connection as _;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnection;

use crate::address::{CATALOG, ConnectError, NOT_OURS, ServerAddress};
use crate::ddl;
use crate::sqlstate::{self, ErrorClass};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// Concurrent daemons run this at once: the slower one finds the catalog created, and perhaps not open yet.
pub(crate) async fn make(connection: &mut PgConnection) -> Result<(), ConnectError> {
    for _ in 0..ATTEMPTS {
        let found: Option<(bool, bool)> = sqlx::query_as(
            "select d.datallowconn, o.rolname <> current_user and not o.rolsuper
             from pg_database d join pg_roles o on o.oid = d.datdba where d.datname = $1",
        )
        .bind(CATALOG)
        .fetch_optional(&mut *connection)
        .await?;
        let step = match found {
            // Any role with CREATEDB could have created it, and its contents would run with the daemon's rights.
            Some((_, true)) => return Err(ConnectError::Unusable(NOT_OURS.to_owned())),
            Some((true, false)) => return Ok(()),
            Some((false, false)) => ddl::open_catalog(),
            None => {
                refuse_to_start_empty(connection).await?;
                let major: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int4 / 10000")
                    .fetch_one(&mut *connection)
                    .await?;
                ddl::create_catalog(u32::try_from(major).unwrap_or(0))
            }
        };
        match step.run(connection).await {
            Err(error) if !matches!(sqlstate::class(&error), ErrorClass::Exists | ErrorClass::Contended) => {
                return Err(error.into());
            }
            _ => {}
        }
    }
    Err(ConnectError::NotUp("the catalog is being made by another daemon".to_owned()))
}

/// Each waits for the other daemon's statement, so a few are enough.
const ATTEMPTS: u32 = 10;

/// A server with databases that pgdibs created has lost its catalog, or an administrator renamed it for a moment. An empty catalog would
/// know none of them: its daemon would drop their logins, and grant leases beside those that are live.
async fn refuse_to_start_empty(connection: &mut PgConnection) -> Result<(), ConnectError> {
    let made: Vec<String> = sqlx::query_scalar(
        "select d.datname::text from pg_database d join pg_roles o on o.oid = d.datdba where o.rolname = 'pgdibs_owner' order by 1",
    )
    .fetch_all(connection)
    .await?;
    if made.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = made.iter().map(|name| format!("dropdb '{}'", name.replace('\'', "'\\''"))).collect();
    Err(ConnectError::Unusable(format!(
        "the catalog, database \"pgdibs\", is missing, but {} database(s) that pgdibs made are on this server, and no empty catalog is made beside them. If it was renamed, rename it back: alter database \"<its name now>\" rename to pgdibs. If it is lost, drop them and start pgdibs again:\n{}",
        made.len(),
        lines.join("\n")
    )))
}

/// Key of the lock of migrations, in the space of one-key advisory locks. ("pgdibs-m" as eight bytes)
const MIGRATION: i64 = 0x7067_6469_6273_2d6d;

/// Runs all migrations in one transaction, so that requests on a server that came back empty find either no catalog or a complete one.
/// With a lock of its own, because sqlx releases its lock before the end of the transaction.
pub(crate) async fn migrate(address: &ServerAddress) -> Result<(), ConnectError> {
    let mut connection = address.connect(CATALOG, "pgdibs").await?;
    let mut transaction = connection.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(MIGRATION).execute(&mut *transaction).await?;
    let (foreign, migrated): (bool, bool) = sqlx::query_as(
        "select exists (select from pg_class where relnamespace = 'public'::regnamespace),
                to_regclass('public._sqlx_migrations') is not null",
    )
    .fetch_one(&mut *transaction)
    .await?;
    if foreign && !migrated {
        return Err(ConnectError::Unusable(
            "the server has a database \"pgdibs\" that is not ours: it holds tables but no catalog; rename or drop it, because pgdibs keeps its catalog under that name".to_owned(),
        ));
    }
    MIGRATIONS.run(&mut *transaction).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) => ConnectError::Unusable(format!(
            "the catalog on this server was made by another version of pgdibs: its migration {version} is not one of this version. Use that version, or remove everything that pgdibs created on this server with: pgdibs purge"
        )),
        MigrateError::Execute(error) => error.into(),
        other => ConnectError::Unusable(format!("the catalog could not be brought up to date: {other}")),
    })?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(())
}
