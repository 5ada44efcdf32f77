//! Cures: what the holder of a database may leave in it that keeps it from being renamed or dropped, and how that is undone.
//!
//! A prepared transaction stops both, a subscription stops the drop, and neither is a session that a fence could end. Both can be
//! undone from inside the database only. A slot needs no cure: its session is ended by the fence, and idle it goes with its
//! database. The template flag is cleared before each drop.

use pgdibs_core::error::StepError;
use pgdibs_core::name::DatabaseName;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::outcome::sql;
use super::sessions::end_sessions;
use crate::context::PgBackend;
use crate::ddl;
use crate::leftovers::run_as_owner;
use crate::sqlstate;

/// Something that is in the way.
struct Obstacle {
    database: String,
    what: What,
    /// Its identifier, as its maker chose it.
    name: String,
    owner: String,
}

impl Obstacle {
    fn tell_undone(&self) {
        tracing::warn!(
            database = self.database,
            owner = self.owner,
            "{} the {} \"{}\", which kept the database from being cleared away",
            if self.what == What::Transaction { "rolled back" } else { "dropped" },
            self.what.words(),
            self.name
        );
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Transaction,
    Subscription,
}

impl What {
    fn words(self) -> &'static str {
        match self {
            Self::Transaction => "prepared transaction",
            Self::Subscription => "subscription",
        }
    }
}

/// Rolls back what is prepared in databases that are still open: it may hold the very rows that closing them has to change.
pub(super) async fn roll_back_all(
    backend: &PgBackend,
    connection: &mut PgConnection,
    databases: &[(i64, &DatabaseName)],
) -> Result<(), StepError> {
    if !may_have_prepared(backend, databases) {
        return Ok(());
    }
    let oids: Vec<i64> = databases.iter().map(|(oid, _)| *oid).collect();
    for obstacle in find(connection, &oids).await?.iter().filter(|obstacle| obstacle.what == What::Transaction) {
        // One that is still there when the database is closed is tried again then, and told of.
        if undo_in(backend, &obstacle.database, obstacle).await.is_ok() {
            obstacle.tell_undone();
        }
    }
    Ok(())
}

/// Whether there may be prepared transactions; Postgres comes with `max_prepared_transactions = 0`, and then no look is needed.
fn may_have_prepared(backend: &PgBackend, databases: &[(i64, &DatabaseName)]) -> bool {
    !databases.is_empty() && backend.connections.facts.prepares_transactions
}

/// Undoes what would keep closed databases, whose sessions have ended, from being renamed. Returns the oids of those for which
/// that failed, and why.
pub(super) async fn before_rename(
    backend: &PgBackend,
    connection: &mut PgConnection,
    databases: &[(i64, &DatabaseName)],
) -> Result<Vec<(i64, StepError)>, StepError> {
    if !may_have_prepared(backend, databases) {
        return Ok(Vec::new());
    }
    let oids: Vec<i64> = databases.iter().map(|(oid, _)| *oid).collect();
    let obstacles = find(connection, &oids).await?;
    let mut failed = Vec::new();
    for (oid, name) in databases {
        let of_this: Vec<&Obstacle> =
            obstacles.iter().filter(|o| o.what == What::Transaction && o.database == name.as_str()).collect();
        if let Err(error) = pre_drop(backend, connection, *oid, *name, &of_this).await {
            failed.push((*oid, error));
        }
    }
    Ok(failed)
}

/// Undoes what would keep a closed database, whose sessions have ended, from being dropped.
pub(super) async fn before_drop(
    backend: &PgBackend,
    connection: &mut PgConnection,
    oid: i64,
    name: &dyn ddl::Database,
) -> Result<(), StepError> {
    let obstacles = find(connection, &[oid]).await?;
    pre_drop(backend, connection, oid, name, &obstacles.iter().collect::<Vec<_>>()).await
}

async fn find(connection: &mut PgConnection, oids: &[i64]) -> Result<Vec<Obstacle>, StepError> {
    let rows = sql(sqlx::query(
        "select p.datname::text as database, true as is_transaction, x.gid as name, x.owner::text as owner
         from pg_prepared_xacts x join pg_database p on p.datname = x.database where p.oid::int8 = any($1)
         union all
         select p.datname::text, false, s.subname::text, pg_get_userbyid(s.subowner)::text
         from pg_subscription s join pg_database p on p.oid = s.subdbid where p.oid::int8 = any($1)",
    )
    .bind(oids)
    .fetch_all(connection)
    .await)?;
    let obstacle = |row: &sqlx::postgres::PgRow| {
        Ok(Obstacle {
            database: row.try_get("database")?,
            what: if row.try_get("is_transaction")? { What::Transaction } else { What::Subscription },
            name: row.try_get("name")?,
            owner: row.try_get("owner")?,
        })
    };
    sql(rows.iter().map(obstacle).collect())
}

/// Opens the database for as long as it takes, and closes it again whatever came of it.
async fn pre_drop(
    backend: &PgBackend,
    connection: &mut PgConnection,
    oid: i64,
    name: &dyn ddl::Database,
    obstacles: &[&Obstacle],
) -> Result<(), StepError> {
    if obstacles.is_empty() {
        return Ok(());
    }
    // What is prepared may hold the very row, and then there is no way in.
    sql(ddl::bound_statements().then(ddl::allow_connections(name, true)).run(connection).await)?;
    let mut cured = Ok(());
    for obstacle in obstacles {
        if let Err(error) = undo_in(backend, name.name(), obstacle).await {
            cured = Err(if sqlstate::meaning(&error) == sqlstate::Meaning::Unavailable {
                sqlstate::step_error(&error)
            } else {
                StepError::Failed(format!(
                    "{} \"{}\" of role \"{}\" is in the way in database \"{}\", and pgdibs cannot undo it: {}",
                    obstacle.what.words(),
                    obstacle.name,
                    obstacle.owner,
                    name.name(),
                    sqlstate::sentence(&error)
                ))
            });
            break;
        }
        obstacle.tell_undone();
    }
    sql(ddl::allow_connections(name, false).run(connection).await)?;
    // Who came in meanwhile, a holder whose lease is being reset among them.
    let left = end_sessions(connection, &[oid]).await?;
    cured?;
    if left.is_empty() { Ok(()) } else { Err(super::outcome::stuck()) }
}

async fn undo_in(backend: &PgBackend, database: &str, obstacle: &Obstacle) -> Result<(), sqlx::Error> {
    let application = format!("{}{}", crate::connections::DDL_APPLICATION, backend.connections.instance);
    let statement = match obstacle.what {
        What::Transaction => ddl::roll_back_prepared(&obstacle.name),
        What::Subscription => ddl::drop_subscription(&obstacle.name),
    };
    run_as_owner(&backend.connections.address, &application, database, &obstacle.owner, &statement).await
}
