//! Moves of ready databases to lower slots. An acquire passes over a database whose row a move has locked.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::name::DatabaseName;
use sqlx::postgres::PgConnection;

use super::contended;
use super::row;
use crate::ddl::{self, Ddl};
use crate::error::{Result, stale};
use pgdibs_failpoint::{Failpoint, reach};

/// Renames a ready database, which nothing has connected to, into a lower slot. A ready one there gets the slot that it leaves.
pub(super) async fn move_to(
    connection: &mut PgConnection,
    database: DatabaseId,
    slot: u32,
    displaced: Option<DatabaseId>,
) -> Result<()> {
    let ids: Vec<i64> = [Some(database), displaced].into_iter().flatten().map(|id| id.0).collect();
    let mut found = row::read(connection, &ids).await?;
    let mut take = |id: DatabaseId| {
        let position = found.iter().position(|d| d.id == id.0 && d.state == "ready")?;
        Some(found.swap_remove(position))
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
    .fetch_one(&mut *connection)
    .await?;
    if occupied {
        return Err(stale("another database is in that slot"));
    }
    let name = DatabaseName::slot(&moved.pool, slot);
    let mut expected = vec![(moved.id, &moved.name, "ready")];
    let mut renames = Ddl::default();
    if let Some(other) = &other {
        expected.push((other.id, &other.name, "ready"));
        // Its name as a spare: a number is used once, so no other database has it.
        let aside = DatabaseName::spare(&other.pool, other.id);
        renames = renames
            .then(ddl::rename(&other.name, &aside))
            .then(ddl::rename(&moved.name, &name))
            .then(ddl::rename(&aside, &moved.name));
    } else {
        renames = renames.then(ddl::rename(&moved.name, &name));
    }
    let placed = ddl::moved(moved.id, &name, slot_number, other.as_ref().map(|other| other.id));
    let moving = ddl::expect_databases(&expected).then(renames).then(placed);
    contended::run(connection, moving, Failpoint::MoveRenamed).await?;
    reach(Failpoint::MoveDone).await;
    Ok(())
}
