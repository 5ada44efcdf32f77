//! Moves of ready databases to lower slots. An acquire passes over a database whose row a move has locked.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::name::DatabaseName;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::contended;
use super::row::{self, DatabaseRow};
use crate::ddl;
use crate::error::{Result, stale};
use pgdibs_failpoint::{Failpoint, reach};

/// Renames a ready database, which nothing has connected to, into a lower slot. A ready one there gets the slot that it leaves.
pub(super) async fn move_to(
    connection: &mut PgConnection,
    database: DatabaseId,
    slot: u32,
    displaced: Option<DatabaseId>,
) -> Result<()> {
    let mut transaction = connection.begin().await?;
    let ids: Vec<i64> = [Some(database), displaced].into_iter().flatten().map(|id| id.0).collect();
    let mut locked = row::lock(&mut transaction, &ids).await?;
    let mut take = |id: DatabaseId| {
        let position = locked.iter().position(|d| d.id == id.0 && d.state == "ready")?;
        Some(locked.swap_remove(position))
    };
    let taken = || stale("a database of the move is not ready any more");
    let moved = take(database).ok_or_else(taken)?;
    let other = displaced.map(|id| take(id).ok_or_else(taken)).transpose()?;
    let slot_number = i32::try_from(slot).map_err(|_| stale("no such slot"))?;
    if moved.slot <= Some(slot_number) || other.as_ref().is_some_and(|other| other.slot != Some(slot_number)) {
        return Err(stale("a database of the move has another slot now"));
    }
    let occupied: bool = sqlx::query_scalar(
        "select exists (select from databases where pool = $1 and slot = $2 and id is distinct from $3)",
    )
    .bind(moved.pool.as_str())
    .bind(slot_number)
    .bind(displaced.map(|id| id.0))
    .fetch_one(&mut *transaction)
    .await?;
    if occupied {
        return Err(stale("another database is in that slot"));
    }
    let name = DatabaseName::slot(&moved.pool, slot);
    let mut renames = ddl::bound_statements();
    let mut expected = vec![(moved.oid, &name)];
    if let Some(other) = &other {
        // Its name as a spare: a number is used once, so no other database has it.
        let aside = DatabaseName::spare(&other.pool, other.id);
        renames = renames
            .then(ddl::rename(&other.name, &aside))
            .then(ddl::rename(&moved.name, &name))
            .then(ddl::rename(&aside, &moved.name));
        expected.push((other.oid, &moved.name));
    } else {
        renames = renames.then(ddl::rename(&moved.name, &name));
    }
    contended::run(&mut transaction, &renames).await?;
    row::check_oids(&mut transaction, &expected).await?;
    if let Some(other) = &other {
        // Slot and name are unique, so this row leaves both before the other gets them.
        sqlx::query("update databases set state = 'spare', name = pool || '_spare_' || id, slot = null where id = $1")
            .bind(other.id)
            .execute(&mut *transaction)
            .await?;
    }
    place(&mut transaction, &moved, &name, Some(slot_number)).await?;
    if let Some(other) = &other {
        place(&mut transaction, other, &moved.name, moved.slot).await?;
    }
    reach(Failpoint::MoveRenamed).await;
    transaction.commit().await?;
    reach(Failpoint::MoveDone).await;
    Ok(())
}

async fn place(
    transaction: &mut PgConnection,
    database: &DatabaseRow,
    name: &DatabaseName,
    slot: Option<i32>,
) -> Result<()> {
    let update =
        "update databases set state = 'ready', name = $2, slot = $3, attempts = 0, retry_at = null where id = $1";
    sqlx::query(update).bind(database.id).bind(name.as_str()).bind(slot).execute(transaction).await?;
    Ok(())
}
