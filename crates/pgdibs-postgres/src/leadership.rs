//! Leadership of the reconciler: one per server, held by a session advisory lock on a connection of its own in the catalog.
//!
//! A new leader first ends the DDL of other daemons: a dead client's CREATE DATABASE completes all the same, unseen by the next plan.

use std::collections::BTreeMap;
use std::time::Duration;

use pgdibs_core::database::{Database, DatabaseState};
use pgdibs_core::error::Error;
use pgdibs_core::lease::{Lease, LeaseId};
use pgdibs_core::name::{Fingerprint, PoolName, RoleName};
use pgdibs_core::request::TemplatePut;
use pgdibs_core::snapshot::Snapshot;
use pgdibs_core::template::{Template, TemplateId, TemplateState};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::time::{Instant, sleep, timeout};

use crate::address::{CATALOG, TRUSTED};
use crate::blockers;
use crate::collations;
use crate::connections::{DDL_APPLICATION, RECONCILER};
use crate::context::{Leadership, PgBackend, Session, answer_within};
use crate::ddl;
use crate::error::Result;
use crate::membership::EVENTS;
use crate::requests::{snapshot, templates};
use crate::scram::digest;
use crate::sqlstate::{self, ErrorClass};
use pgdibs_failpoint::{Failpoint, reach};

/// Key of leadership's lock, in the space of one-key advisory locks. ("pgdibs" as six bytes)
const LEADERSHIP: i64 = 0x7067_6469_6273;

/// Timeout for other sessions to end.
const PREDECESSORS: Duration = Duration::from_secs(10);

/// An idle session answers within this time, or is dead.
const PING: Duration = Duration::from_secs(3);

/// A snapshot is a handful of statements on small tables.
const SNAPSHOT: Duration = Duration::from_secs(5);

/// To connect, to end what other daemons have in progress, and to try the lock.
const ACQUIRE: Duration = Duration::from_secs(25);

impl PgBackend {
    /// Tries to take leadership; true when this daemon has it. Cheap when it has it already.
    ///
    /// An error when the session that held it has ended; the next call tries again. So the caller learns of an interruption of the server
    /// however short it was.
    pub async fn acquire_leadership(&self) -> Result<bool, Error> {
        let mut leadership = self.leadership.lock().await;
        if let Some(held) = leadership.as_mut() {
            if held.used.elapsed() < TRUSTED {
                return Ok(true);
            }
            let pinged = answer_within(PING, held.connection.ping()).await;
            if pinged.is_err() {
                self.discard_leadership(&mut leadership).await;
            }
            return pinged.map(|()| true).map_err(|error| self.with_address(error.into()));
        }
        let acquired = answer_within(ACQUIRE, self.lock_leadership()).await;
        *leadership = acquired.map_err(|error| self.with_address(error.into()))?;
        Ok(leadership.is_some())
    }

    /// Gives the session up, whatever its state. The server may not know that it is dead, and would keep its lock.
    pub(crate) async fn discard_leadership(&self, leadership: &mut Option<Leadership>) {
        self.has_tenants.send_replace(true);
        if let Some(held) = leadership.take() {
            *self.lost.lock().await = Some(held.session);
        }
    }

    async fn lock_leadership(&self) -> Result<Option<Leadership>> {
        let mut applicant = self.applicant.lock().await;
        let mut kept = applicant.take();
        if let Some(connection) = kept.as_mut()
            && !matches!(timeout(PING, connection.ping()).await, Ok(Ok(())))
        {
            kept = None;
        }
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connections.address.connect(CATALOG, RECONCILER).await?,
        };
        let mut lost = self.lost.lock().await;
        if let Some(session) = lost.as_ref() {
            end_all(&mut connection, END_LOST, &session.process.to_string(), &session.began).await?;
            *lost = None;
        }
        let (locked, process, began): (bool, i32, String) = sqlx::query_as(
            "select pg_try_advisory_lock($1), pg_backend_pid(),
                    (select backend_start::text from pg_stat_activity where pid = pg_backend_pid())",
        )
        .bind(LEADERSHIP)
        .fetch_one(&mut connection)
        .await?;
        if !locked {
            *applicant = Some(connection);
            return Ok(None);
        }
        reach(Failpoint::StartElected).await;
        end_all(&mut connection, END_PREDECESSORS, DDL_APPLICATION, &self.ddl_application()).await?;
        reach(Failpoint::StartPredecessorsEnded).await;
        self.create_owner(&mut connection).await?;
        collations::check(self, &mut connection).await?;
        // Before the first step, so that no step waits for the connection that finds blockers.
        blockers::check(self).await;
        reach(Failpoint::StartAsLeader).await;
        Ok(Some(Leadership { connection, used: Instant::now(), session: Session { process, began } }))
    }

    /// As [`Backend::take_snapshot`](pgdibs_core::backend::Backend::take_snapshot), on leadership's own connection; an error when this
    /// daemon does not lead.
    pub async fn take_snapshot_as_leader(&self) -> Result<Snapshot, Error> {
        let mut leadership = self.leadership.lock().await;
        let Some(held) = leadership.as_mut() else {
            return Err(Error::ServerUnavailable("this daemon does not reconcile".to_owned()));
        };
        let taken = answer_within(SNAPSHOT, snapshot::take_on(self, &mut held.connection)).await;
        match &taken {
            Ok(snapshot) => {
                held.used = Instant::now();
                self.has_tenants.send_if_modified(|known| std::mem::replace(known, has_tenants(snapshot)) != *known);
            }
            Err(_) => self.discard_leadership(&mut leadership).await,
        }
        taken.map_err(|error| self.with_address(error.into()))
    }

    /// Gives leadership up, so that another daemon need not wait until the server notices that the session has ended.
    pub async fn step_down(&self) {
        if let Some(mut held) = self.leadership.lock().await.take() {
            let _ = sqlx::query("select pg_advisory_unlock($1)").bind(LEADERSHIP).execute(&mut held.connection).await;
        }
    }

    /// Creates the owner of all databases. Only the daemon is a member of it, since a member could drop them.
    async fn create_owner(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let owner = RoleName::database_owner();
        match ddl::create_nologin_role(&owner).run(connection).await {
            Err(error) if sqlstate::class(&error) != ErrorClass::Exists => return Err(error),
            _ => {}
        }
        self.join(&owner).run(connection).await
    }

    /// Notifies the other daemons of this server, if there are any, that something changed.
    pub async fn notify(&self) -> Result<(), Error> {
        if !self.has_others().await? {
            return Ok(());
        }
        let catalog = self.catalog();
        let own = self.instance().to_string();
        self.within(sqlx::query("select pg_notify('pgdibs', $1)").bind(own).execute(&catalog)).await?;
        Ok(())
    }

    /// Whether other daemons run on this server, as of a second ago at most.
    pub async fn has_others(&self) -> Result<bool, Error> {
        Ok(self.daemons().await? > 1)
    }

    /// Sends events to the other daemons of this server: fewer than 8000 bytes. Nothing is written to the catalog.
    pub async fn notify_events(&self, payload: &str) -> Result<(), Error> {
        let catalog = self.catalog();
        self.within(sqlx::query("select pg_notify($1, $2)").bind(EVENTS).bind(payload).execute(&catalog)).await?;
        Ok(())
    }

    /// Sessions per login, for the logins of these leases.
    pub async fn sessions(&self, leases: &[&Lease]) -> Result<BTreeMap<LeaseId, u32>, Error> {
        let ids: Vec<LeaseId> = leases.iter().map(|lease| lease.id).collect();
        let catalog = self.catalog();
        // By database and login, because the leases of a batch may share a login.
        let counting = sqlx::query_as(
            "select l.id, count(*) from leases l join databases d on d.id = l.database_id
             join pg_stat_activity a on a.datid::int8 = d.oid and a.usename::text in (d.login, l.shared_login)
             where l.id = any($1) group by l.id",
        )
        .bind(ids)
        .fetch_all(&catalog);
        let counts: Vec<(LeaseId, i64)> = self.within(counting).await?;
        Ok(counts.into_iter().map(|(id, count)| (id, u32::try_from(count).unwrap_or(u32::MAX))).collect())
    }

    /// The number of running daemons, this one included, at most a second old: the reconciler asks after every change, and reading all
    /// locks blocks every session that wants one. A daemon that misses a notification reads the catalog by itself within half a second.
    async fn daemons(&self) -> Result<i64, Error> {
        let mut known = self.daemons.lock().await;
        if let Some((at, count)) = *known
            && at.elapsed() < Duration::from_secs(1)
        {
            return Ok(count);
        }
        let catalog = self.catalog();
        let counting = sqlx::query_scalar("select count(distinct daemon) from living_daemons").fetch_one(&catalog);
        let count = self.within(counting).await?;
        *known = Some((Instant::now(), count));
        Ok(count)
    }

    /// As [`Backend::put_template`](pgdibs_core::backend::Backend::put_template), for a build by this daemon itself, which lives as long
    /// as the daemon's membership. The template has the encoding and the locale of the database `copy_of`.
    pub async fn put_own_template(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        holder: &str,
        token: &str,
        copy_of: Option<&str>,
    ) -> Result<TemplatePut, Error> {
        let (token, built_by) = (digest(token), Some(self.instance()));
        self.within(templates::put(self, pool, fingerprint, holder, &token, built_by, copy_of)).await
    }

    /// Keeps the output of a build by this daemon.
    pub async fn keep_build_log(&self, template: TemplateId, log: &str) -> Result<(), Error> {
        self.within(templates::keep_log(self, template, log)).await
    }

    /// Makes a template the pool's current one, as a client's `PUT` does. Not done by [`Self::put_own_template`], which a daemon repeats every
    /// few seconds: two daemons with different inputs would move the warm databases to and fro.
    pub async fn make_current(&self, template: &Template) -> Result<(), Error> {
        self.within(templates::make_current(self, template)).await
    }
}

/// Whether a login that pgdibs made may be in use. Databases that no caller has had yet have passwords that no one knows.
fn has_tenants(snapshot: &Snapshot) -> bool {
    let unused = |database: &Database| matches!(database.state, DatabaseState::Spare | DatabaseState::Ready);
    !snapshot.leases.is_empty()
        || !snapshot.databases.iter().all(unused)
        || snapshot.templates.iter().any(|template| template.state == TemplateState::Building)
}

/// Ends the session of a client that may have ended without the server's notice.
const END_LOST: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid = $1::int4 and backend_start = $2::timestamptz";

/// Ends the DDL of other daemons.
const END_PREDECESSORS: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity
     where starts_with(application_name, $1) and application_name <> $2 and usename = current_user";

/// Runs one of these statements until it finds no session.
async fn end_all(
    connection: &mut PgConnection,
    statement: &'static str,
    first: &str,
    second: &str,
) -> Result<(), sqlx::Error> {
    let deadline = Instant::now() + PREDECESSORS;
    loop {
        let left: i64 = sqlx::query_scalar(statement).bind(first).bind(second).fetch_one(&mut *connection).await?;
        if left == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(sqlx::Error::PoolTimedOut);
        }
        sleep(Duration::from_millis(2)).await;
    }
}
