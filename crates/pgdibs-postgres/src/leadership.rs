//! Leadership of the reconciler: one per server, held by a session advisory lock on a connection of its own in the catalog.
//!
//! Whoever takes it first ends the DDL of its predecessors: a dead client's CREATE DATABASE completes all the same, and would
//! do so behind the back of the next plan.

use std::collections::BTreeMap;
use std::time::Duration;

use pgdibs_core::error::Error;
use pgdibs_core::lease::{Lease, LeaseId};
use pgdibs_core::name::{Fingerprint, PoolName, RoleName};
use pgdibs_core::request::TemplatePut;
use pgdibs_core::snapshot::Snapshot;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use crate::address::{CATALOG, TRUSTED};
use crate::blockers;
use crate::connection_pool::ANSWER;
use crate::connections::{DDL_APPLICATION, RECONCILER};
use crate::context::{Held, PgBackend, Session, answer, no_answer};
use crate::ddl;
use crate::failpoint::{Point, reach};
use crate::requests::gather;
use crate::rights::Rights;
use crate::shared_sql::living_daemons;
use crate::sqlstate::{self, Meaning};
use crate::steps::clone::drop_unused_roles;
use crate::steps::drop::drop_logins;

/// Key of leadership's lock, in the space of one-key advisory locks. ("pgdibs" as six bytes)
const LEADERSHIP: i64 = 0x7067_6469_6273;

/// Predecessors' statements are given this long to end.
const PREDECESSORS: Duration = Duration::from_secs(10);

/// So many dead rows are worth a vacuum of a few milliseconds.
const DEAD_ROWS: i64 = 500;

/// An idle session answers within this time, or is dead.
const PING: Duration = Duration::from_secs(3);

/// A look is a handful of statements on small tables.
const LOOK: Duration = Duration::from_secs(5);

/// To connect, to end what predecessors have under way, and to look who is leading.
const APPLICATION: Duration = Duration::from_secs(25);

impl PgBackend {
    /// Applies for leadership; true when this daemon holds it. Cheap when it does already.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`]; leadership is then vacant as far as we are concerned. That a session which held it has ended is an
    /// error too, and the next call applies again: a server that was away is told of however soon it is back.
    pub async fn lead(&self) -> Result<bool, Error> {
        let mut leadership = self.leadership.lock().await;
        if let Some(held) = leadership.as_mut() {
            if held.used.elapsed() < TRUSTED {
                return Ok(true);
            }
            let pinged = tokio::time::timeout(PING, held.connection.ping());
            let pinged = pinged.await.map_or_else(|_| Err(no_answer(PING)), answer);
            if pinged.is_err() {
                // It is told at once, before a new session is tried, which may take its time as well.
                self.lose(&mut leadership).await;
            }
            return pinged.map(|()| true);
        }
        *leadership =
            tokio::time::timeout(APPLICATION, self.apply()).await.unwrap_or_else(|_| Err(no_answer(APPLICATION)))?;
        Ok(leadership.is_some())
    }

    /// Gives the session up, whatever state it is in. The server may not know that it is dead, and would keep its lock.
    pub(crate) async fn lose(&self, leadership: &mut Option<Held>) {
        if let Some(held) = leadership.take() {
            *self.lost.lock().await = Some(held.session);
        }
    }

    /// A session that holds leadership, if nobody else's does.
    async fn apply(&self) -> Result<Option<Held>, Error> {
        let mut connection = answer(self.connections.address.connect(CATALOG, RECONCILER).await)?;
        let mut lost = self.lost.lock().await;
        if let Some(session) = lost.as_ref() {
            answer(end_session(&mut connection, session).await)?;
            *lost = None;
        }
        let (got, process, began): (bool, i32, String) = answer(
            sqlx::query_as(
                "select pg_try_advisory_lock($1), pg_backend_pid(),
                        (select backend_start::text from pg_stat_activity where pid = pg_backend_pid())",
            )
            .bind(LEADERSHIP)
            .fetch_one(&mut connection)
            .await,
        )?;
        if !got {
            return Ok(None);
        }
        reach(Point::StartElected).await;
        answer(end_predecessors(&mut connection, self.connections.instance).await)?;
        reach(Point::StartPredecessorsEnded).await;
        answer(self.make_owner(&mut connection).await)?;
        // Before the first step, so that no step waits until there is a connection to look on.
        blockers::take_snapshot(self).await;
        reach(Point::StartAsLeader).await;
        Ok(Some(Held { connection, used: Instant::now(), session: Session { process, began } }))
    }

    /// A snapshot for the next plan, taken on leadership's own connection.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`], also when this daemon does not hold leadership.
    pub async fn take_snapshot(&self) -> Result<Snapshot, Error> {
        let mut leadership = self.leadership.lock().await;
        let Some(held) = leadership.as_mut() else {
            return Err(Error::ServerUnavailable("this daemon does not reconcile".to_owned()));
        };
        let gathering = tokio::time::timeout(LOOK, gather::gather_on(self, &mut held.connection));
        let snapshot = gathering.await.map_or_else(|_| Err(no_answer(LOOK)), answer);
        match snapshot {
            Ok(_) => held.used = Instant::now(),
            Err(_) => self.lose(&mut leadership).await,
        }
        snapshot
    }

    /// Gives leadership up, so that another daemon need not wait for the session to be noticed gone.
    pub async fn step_down(&self) {
        if let Some(mut held) = self.leadership.lock().await.take() {
            let _ = sqlx::query("select pg_advisory_unlock($1)").bind(LEADERSHIP).execute(&mut held.connection).await;
        }
    }

    /// The owner of all our databases. Granted to nobody but us: who is a member of it could drop them.
    async fn make_owner(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let owner = RoleName::database_owner();
        match ddl::create_nologin_role(&owner).run(connection).await {
            Err(error) if sqlstate::meaning(&error) != Meaning::Exists => return Err(error),
            _ => {}
        }
        if self.connections.facts.rights == Rights::DatabasesAndRoles {
            let facts = &self.connections.facts;
            ddl::grant_role(&owner, &facts.role, facts.major).run(connection).await?;
        }
        Ok(())
    }

    /// Housekeeping that no plan needs: what is remembered for a day, tickets of daemons that are gone, logins and roles that no row names.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    pub async fn collect_garbage(&self) -> Result<(), Error> {
        let mut leadership = self.leadership.lock().await;
        let Some(Held { connection, .. }) = leadership.as_mut() else { return Ok(()) };
        let sweeping = async {
            delete_old_rows(connection).await?;
            drop_unused_logins(self, connection).await?;
            drop_unused_roles(connection).await
        };
        let swept = tokio::select! {
            swept = tokio::time::timeout(ANSWER, sweeping) => swept.map_or_else(|_| Err(no_answer(ANSWER)), answer),
            never = blockers::end(self, blockers::FAST) => match never {},
        };
        if swept.is_err() {
            self.lose(&mut leadership).await;
        }
        swept
    }

    /// Vacuums shared catalogs and ours once some hundred rows are dead. Each clone with its swap and drop leaves a dozen in
    /// `pg_database` alone, which every look at the server reads from end to end; autovacuum comes by once in minutes. Returns whether it was due.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    pub async fn vacuum_catalogs(&self) -> Result<bool, Error> {
        if self.connections.facts.rights != Rights::Superuser {
            return Ok(false);
        }
        let mut connection = answer(self.connections.ddl.acquire().await)?;
        let dead: i64 = answer(
            sqlx::query_scalar("select coalesce(sum(pg_stat_get_dead_tuples(name::regclass)), 0)::int8 from unnest($1::text[]) as name")
                .bind(&ddl::VACUUMED[..])
                .fetch_one(&mut *connection)
                .await,
        )?;
        if dead < DEAD_ROWS {
            return Ok(false);
        }
        answer(ddl::vacuum_catalogs().run(&mut connection).await)?;
        Ok(true)
    }

    /// Tells the other daemons on this server that something changed.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    pub async fn notify(&self) -> Result<(), Error> {
        self.within(async {
            answer(
                sqlx::query("select pg_notify('pgdibs', $1)")
                    .bind(self.connections.instance.to_string())
                    .execute(&self.connections.catalog)
                    .await
                    .map(|_| ()),
            )
        })
        .await
    }
}

/// A moment, moved with a clock that was set, unless it was noted after that: as seen from another one in the past, at which it was noted.
/// Before the clock was set forward nobody could note anything that late; after it was set back nobody can note what is still to come.
macro_rules! moved {
    ($moment:literal) => {
        moved!($moment, $moment)
    };
    ($moment:literal, $noted:literal) => {
        concat!(
            "case when $1 > 0 and ",
            $noted,
            " <= now() - $1 * interval '1 us' or $1 < 0 and ",
            $noted,
            " > now() then ",
            $moment,
            " + $1 * interval '1 us' else ",
            $moment,
            " end"
        )
    };
}

impl PgBackend {
    /// The server's clock was set: the times that count are moved with it, so that nothing is over too early and nothing lasts too long.
    /// What was noted in between, by the clock as it is now, stays: of a moment in the past one can tell. (A clock that is set back makes
    /// it look later than it was, by as much at the most, if it was long enough ago.) A retry is noted a minute ahead at the most.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    pub async fn move_times(&self, microseconds: i64) -> Result<(), Error> {
        let mut leadership = self.leadership.lock().await;
        let Some(Held { connection, .. }) = leadership.as_mut() else { return Ok(()) };
        let moved = async {
            let mut transaction = connection.begin().await?;
            for statement in [
                concat!(
                    "update templates set build_heard_at = ",
                    moved!("build_heard_at"),
                    ", last_used_at = ",
                    moved!("last_used_at"),
                    ", retry_at = ",
                    moved!("retry_at", "(retry_at - interval '60 s')")
                ),
                concat!(
                    "update databases set retry_at = ",
                    moved!("retry_at", "(retry_at - interval '60 s')"),
                    ", keep_until = ",
                    moved!("keep_until", "kept_at"),
                    ", kept_at = ",
                    moved!("kept_at"),
                    " where retry_at is not null or keep_until is not null"
                ),
                concat!("update announced_runs set put_at = ", moved!("put_at")),
            ] {
                sqlx::query(statement).bind(microseconds).execute(&mut *transaction).await?;
            }
            transaction.commit().await
        };
        let moved = tokio::time::timeout(ANSWER, moved).await.map_or_else(|_| Err(no_answer(ANSWER)), answer);
        if moved.is_err() {
            self.lose(&mut leadership).await;
        }
        moved
    }
}

/// Ends a session of our own that may not know that its other end has gone, and waits for that.
async fn end_session(connection: &mut PgConnection, session: &Session) -> Result<(), sqlx::Error> {
    let deadline = Instant::now() + PREDECESSORS;
    loop {
        let left: i64 = sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid = $1 and backend_start = $2::timestamptz",
        )
        .bind(session.process)
        .bind(&session.began)
        .fetch_one(&mut *connection)
        .await?;
        if left == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(sqlx::Error::PoolTimedOut);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn end_predecessors(connection: &mut PgConnection, instance: i32) -> Result<(), sqlx::Error> {
    let ours = format!("{DDL_APPLICATION}{instance}");
    let deadline = Instant::now() + PREDECESSORS;
    loop {
        let left: Vec<i32> = sqlx::query_scalar(
            "select pid from (
                 select pid, pg_terminate_backend(pid) from pg_stat_activity
                 where starts_with(application_name, $1) and application_name <> $2 and usename = current_user) ended",
        )
        .bind(DDL_APPLICATION)
        .bind(&ours)
        .fetch_all(&mut *connection)
        .await?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(sqlx::Error::PoolTimedOut);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn delete_old_rows(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("delete from leases where ended_at < now() - interval '24 hours'").execute(&mut *connection).await?;
    sqlx::query("delete from ended_runs where ended_at < now() - interval '24 hours'")
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "delete from announced_runs r where put_at < now() - interval '60 s'
           and not exists (select from leases l where l.run = r.run and l.pool = r.pool and l.state = 'live')",
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query(concat!("delete from tickets t where t.daemon::int8 not in (", living_daemons!(), ")"))
        .execute(connection)
        .await?;
    Ok(())
}

/// Logins of ours by name that no row names: left by a step that failed after the database was gone. One that may still connect to a
/// database that pgdibs made is left alone, whatever our rows say: a lease may hold it, if the catalog is not the one that made it.
async fn drop_unused_logins(backend: &PgBackend, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "select r.rolname::text from pg_roles r
         where r.rolname ~ '^pgdibs_l_[0-9]+$'
           and not exists (select from databases d where r.rolname in (d.login, d.keep_login))
           and not exists (select from templates t where r.rolname = 'pgdibs_l_' || t.id and t.state <> 'ready')
           and not exists (select from leases l where l.state = 'live' and r.rolname = l.shared_login)
           and not exists (
               select from pg_database d cross join lateral aclexplode(d.datacl) a
               where a.grantee = r.oid and a.privilege_type = 'CONNECT' and d.datdba = (select oid from pg_roles where rolname = $1))",
    )
    .bind(RoleName::database_owner().as_str())
    .fetch_all(&mut *connection)
    .await?;
    for name in names {
        let Ok(login) = RoleName::parse("login", &name) else { continue };
        if let Err(error) = ddl::close_login(&login).run(connection).await {
            if sqlstate::meaning(&error) == Meaning::Unavailable {
                return Err(error);
            }
            tracing::debug!(login = name, error = %sqlstate::sentence(&error), "a login that no row names cannot be closed yet");
            continue;
        }
        if let Err(error) = drop_logins(backend, connection, std::slice::from_ref(&name)).await {
            tracing::debug!(login = name, %error, "a login that no row names cannot be dropped yet");
        }
    }
    Ok(())
}

impl PgBackend {
    /// Sessions per login, for the logins of these leases.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    pub async fn sessions(&self, leases: &[&Lease]) -> Result<BTreeMap<LeaseId, u32>, Error> {
        self.within(async {
            // By database and login: without logins of their own, all leases connect as one role.
            let ids: Vec<LeaseId> = leases.iter().map(|lease| lease.id).collect();
            let rows: Vec<(LeaseId, i64)> = answer(
                sqlx::query_as(
                    "select l.id, count(*) from leases l join databases d on d.id = l.database_id
                 join pg_stat_activity a on a.datid::int8 = d.oid and a.usename::text in (d.login, l.shared_login)
                 where l.id = any($1) group by l.id",
                )
                .bind(ids)
                .fetch_all(&self.connections.catalog)
                .await,
            )?;
            Ok(rows.into_iter().map(|(id, count)| (id, u32::try_from(count).unwrap_or(u32::MAX))).collect())
        })
        .await
    }

    /// Daemons that show that they live, this one included, as of a second ago: it is asked after every change, and a look at
    /// all locks stops whoever wants one meanwhile. A daemon that is not told of a change looks by itself within half a second.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    pub async fn daemons(&self) -> Result<i64, Error> {
        self.within(async {
            let mut known = self.daemons.lock().await;
            if let Some((at, count)) = *known
                && at.elapsed() < Duration::from_secs(1)
            {
                return Ok(count);
            }
            let count = answer(
                sqlx::query_scalar(concat!(
                    "select count(distinct daemon) from (",
                    living_daemons!(),
                    ") living (daemon)"
                ))
                .fetch_one(&self.connections.catalog)
                .await,
            )?;
            *known = Some((Instant::now(), count));
            Ok(count)
        })
        .await
    }

    /// As [`Backend::put_template`](pgdibs_core::backend::Backend::put_template), for a build by this daemon itself: it lives as long
    /// as the daemon's presence does.
    ///
    /// # Errors
    /// Unknown pool.
    pub async fn put_own_template(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        holder: &str,
        token: &str,
    ) -> Result<TemplatePut, Error> {
        self.within(async {
            let token = crate::scram::digest(token);
            crate::requests::templates::put(self, pool, fingerprint, holder, &token, Some(self.connections.instance))
                .await
        })
        .await
    }
}
