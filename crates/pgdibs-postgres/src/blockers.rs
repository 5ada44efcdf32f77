//! Blockers: tenants' sessions and prepared transactions for whose locks a statement of the daemon waits, and their end.
//!
//! The databases of a pool grant CREATE and TEMPORARY to the pool's owner role, as which its sessions act. So each of them may update
//! the `pg_database` row of any database of its pool (a `grant` that changes nothing still does), and its login may update its own
//! row in `pg_authid`; and every role locks a database or a role as an object by a setting or a grant that names it. An open transaction
//! that did holds up every rename and drop, and a breakpoint in a test may leave one open for hours. While a step runs, [`end`] looks for such blockers and ends them.

use std::convert::Infallible;
use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::connect::CATALOG;
use crate::world::PgWorld;

/// Before a first look, and between two, while fast steps run: all callers wait for those. Longer than a tenant's own `grant` takes.
pub(crate) const FAST: Duration = Duration::from_millis(30);

/// The same while a slow step runs, for which only the refill waits.
pub(crate) const SLOW: Duration = Duration::from_millis(250);

/// A look is one statement; a rollback of a prepared transaction connects first.
const LOOK: Duration = Duration::from_secs(5);

/// Ends blockers until it is dropped.
///
/// It looks on one further connection, which all steps under way share, because those that run them wait.
pub(crate) async fn end(world: &PgWorld, every: Duration) -> Infallible {
    loop {
        tokio::time::sleep(every).await;
        let mut watch = world.watch.lock().await;
        match tokio::time::timeout(LOOK, look(world, &mut watch)).await {
            Ok(Ok(())) => {}
            // Another look opens another connection; the steps themselves say when the server has gone.
            Ok(Err(_)) | Err(_) => *watch = None,
        }
    }
}

async fn look(world: &PgWorld, watch: &mut Option<PgConnection>) -> Result<(), sqlx::Error> {
    let connection = match watch {
        Some(connection) => connection,
        None => watch.insert(world.connections.address.connect(CATALOG, "pgdibs-watch").await?),
    };
    end_sessions(connection).await?;
    if world.connections.facts.prepares_transactions {
        for (database, gid, owner) in prepared(connection).await? {
            match crate::steps::roll_back_prepared(world, &database, &gid, &owner).await {
                Ok(()) => tracing::warn!(database, gid, "rolled back prepared transaction: pgdibs waited for its lock"),
                Err(error) => tracing::warn!(database, gid, %error, "cannot roll back prepared transaction"),
            }
        }
    }
    Ok(())
}

/// Ends the sessions of tenants for whose locks a session of a daemon waits.
async fn end_sessions(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let ended = sqlx::query(
        "select coalesce(b.usename::text, 'a role that was dropped') as login, b.datname::text as database, pg_terminate_backend(b.pid) as done
         from pg_stat_activity w cross join lateral unnest(pg_blocking_pids(w.pid)) as blocking (pid)
         join pg_stat_activity b on b.pid = blocking.pid
         where w.usename = current_user and starts_with(w.application_name, 'pgdibs') and w.wait_event_type = 'Lock'
           and (b.usename ~ '^pgdibs_l_[0-9]+$' or (b.usename is null and b.usesysid is not null))",
    )
    .fetch_all(connection)
    .await?;
    for row in ended {
        tracing::warn!(
            login = row.try_get::<&str, _>("login")?,
            database = row.try_get::<Option<&str>, _>("database")?,
            "ended tenant session: pgdibs waited for its lock"
        );
    }
    Ok(())
}

/// Prepared transactions of tenants for whose locks a session of a daemon waits, as database, identifier and owner.
///
/// No process holds the locks of a prepared transaction: they are told by the lock on its own number, which it holds as well.
async fn prepared(connection: &mut PgConnection) -> Result<Vec<(String, String, String)>, sqlx::Error> {
    sqlx::query_as(
        "select distinct x.database::text, x.gid, x.owner::text
         from pg_stat_activity w
         join pg_locks wanted on wanted.pid = w.pid and not wanted.granted
         join pg_locks held on held.granted and held.pid is null and held.locktype = wanted.locktype
           and (held.database, held.relation, held.page, held.tuple, held.virtualxid, held.transactionid, held.classid, held.objid, held.objsubid)
               is not distinct from
               (wanted.database, wanted.relation, wanted.page, wanted.tuple, wanted.virtualxid, wanted.transactionid, wanted.classid, wanted.objid, wanted.objsubid)
         join pg_locks own on own.virtualtransaction = held.virtualtransaction and own.locktype = 'transactionid'
         join pg_prepared_xacts x on x.transaction = own.transactionid
         left join pg_database p on p.datname = x.database
         where w.usename = current_user and starts_with(w.application_name, 'pgdibs') and w.wait_event_type = 'Lock'
           and (x.owner ~ '^pgdibs_l_[0-9]+$' or x.owner::text in (select owner from pools union all select name from roles) or exists (select from databases d where d.oid = p.oid::int8 and d.name = p.datname))",
    )
    .fetch_all(connection)
    .await
}
