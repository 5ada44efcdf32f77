//! The catalog and the server as one daemon sees them: its connections, and what it remembers between statements.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use pgdibs_core::error::Error;
use pgdibs_core::name::RoleName;
use pgdibs_core::pool::LoginSettings;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Postgres, Transaction};
use tokio::time::{Instant, timeout};

use crate::connection_pool::ANSWER_TIMEOUT;
use crate::connections::{Connections, DDL_APPLICATION, OWN_CONNECTIONS};
use crate::ddl::{self, Ddl, LoginKind};
use crate::disk::{self, Disk};
use crate::error::{PgError, Result};
use crate::facts::ServerFacts;
use crate::handed_over::HandedOver;
use crate::rights::Rights;
use crate::sqlstate;
use crate::watch::Watch;

/// Attempts at a request whose transaction the server rolls back.
const ATTEMPTS: u32 = 5;

pub struct PgBackend {
    pub(crate) connections: Connections,
    /// Below this many free bytes on the server's disk, the planner creates no clone.
    pub(crate) disk_floor_bytes: u64,
    /// The reconciler's own connection, while this daemon leads.
    pub(crate) leadership: tokio::sync::Mutex<Option<Leadership>>,
    /// The connection on which this daemon applies for leadership, while another one leads.
    pub(crate) applicant: tokio::sync::Mutex<Option<PgConnection>>,
    /// The session that held leadership before, if it may not have ended.
    pub(crate) lost: tokio::sync::Mutex<Option<Session>>,
    /// The last count of the server's daemons, and its time.
    pub(crate) daemons: tokio::sync::Mutex<Option<(Instant, i64)>>,
    /// The connection that finds blockers.
    pub(crate) watch: tokio::sync::Mutex<Watch>,
    pub(crate) handed_over: Mutex<HandedOver>,
    pub(crate) suspects: tokio::sync::Mutex<Suspects>,
    pub(crate) disk: Disk,
    /// Whether a login of pgdibs may be in use, as far as the leader knows.
    pub(crate) has_tenants: tokio::sync::watch::Sender<bool>,
}

impl PgBackend {
    pub fn new(connections: Connections, disk_floor_bytes: u64) -> Self {
        Self {
            connections,
            disk_floor_bytes,
            leadership: tokio::sync::Mutex::default(),
            applicant: tokio::sync::Mutex::default(),
            lost: tokio::sync::Mutex::default(),
            daemons: tokio::sync::Mutex::default(),
            watch: tokio::sync::Mutex::default(),
            handed_over: Mutex::default(),
            suspects: tokio::sync::Mutex::default(),
            disk: Disk::default(),
            has_tenants: tokio::sync::watch::Sender::new(true),
        }
    }

    pub fn facts(&self) -> &ServerFacts {
        &self.connections.facts
    }

    /// Databases of others that had sessions when this daemon connected to the server.
    pub fn in_use_by_others(&self) -> &[String] {
        &self.connections.in_use_by_others
    }

    /// This daemon's number among the daemons of the server.
    pub fn instance(&self) -> i32 {
        self.connections.instance
    }

    /// The number of slots that `max_connections` allows, at one session each, beside the daemon's own connections.
    pub fn slots_by_connections(&self) -> u32 {
        self.facts().max_connections.saturating_sub(OWN_CONNECTIONS).max(1)
    }

    /// Free bytes on the server's disk, if the daemon can see it.
    pub(crate) fn free_disk(&self) -> Option<u64> {
        disk::free_bytes(self.facts())
    }

    /// Whether the server can let a clone share the blocks of its template, as far as is known.
    pub(crate) fn clones_files(&self) -> bool {
        self.facts().clones_files && self.disk.may_clone_files()
    }

    /// The connections for requests.
    pub(crate) fn catalog(&self) -> PgPool {
        self.connections.catalog.pool().0
    }

    /// The application name of the connections that run DDL.
    pub(crate) fn ddl_application(&self) -> String {
        format!("{DDL_APPLICATION}{}", self.instance())
    }

    /// Creates a login that the daemon can administer: it can end a session only as a superuser or as a member of the session's role.
    pub(crate) fn create_login(
        &self,
        login: &RoleName,
        verifier: &str,
        acts_as: &RoleName,
        settings: LoginSettings,
        connection_limit: u32,
    ) -> Ddl {
        let kind = LoginKind { settings, connection_limit, made_by: self.facts().rights };
        ddl::create_login(login, verifier, acts_as, kind).then(self.join(login))
    }

    /// Makes the daemon a member of a role, unless it is a superuser.
    pub(crate) fn join(&self, role: &RoleName) -> Ddl {
        let facts = self.facts();
        match facts.rights {
            Rights::Superuser => Ddl::default(),
            Rights::DatabasesAndRoles => ddl::grant_role(role, &facts.role, facts.major),
        }
    }

    /// Begins a transaction on a shared connection, in a task of its own, because a caller may disconnect at any moment: sqlx counts a
    /// transaction only after the answer to `begin`, rolls back only what it has counted, and would lend the connection with an open
    /// transaction to the next caller.
    pub(crate) async fn transaction(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.transaction_with("begin").await
    }

    pub(crate) async fn transaction_with(
        &self,
        statement: &'static str,
    ) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let pool = self.catalog();
        let begun = tokio::spawn(async move { pool.begin_with(statement).await });
        begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    /// Runs a request with a timeout. After the timeout the request may have been done or not, which a repeated request finds out in the
    /// catalog; the connections are presumed dead and replaced.
    pub(crate) async fn within<T, E: Into<PgError>>(
        &self,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error> {
        let (_, number) = self.connections.catalog.pool();
        let Ok(answer) = timeout(ANSWER_TIMEOUT, request).await else {
            self.connections.catalog.discard(number);
            return Err(self.with_address(no_answer(ANSWER_TIMEOUT)));
        };
        answer.map_err(|error| self.with_address(error.into().into()))
    }

    /// The same for a request that may run again: each is one transaction, or statements that may be repeated. A transaction that Postgres
    /// rolled back because of a concurrent one runs again, within the same timeout.
    pub(crate) async fn request<T, E: Into<PgError>, F: Future<Output = Result<T, E>>>(
        &self,
        request: impl Fn() -> F,
    ) -> Result<T, Error> {
        self.within(async {
            for _ in 1..ATTEMPTS {
                match request().await.map_err(Into::into) {
                    Err(PgError::Sql(error)) if sqlstate::is_rolled_back(&error) => {}
                    answer => return answer,
                }
            }
            request().await.map_err(Into::into)
        })
        .await
    }

    /// Names the server's address in an error that says that it is not available.
    pub(crate) fn with_address(&self, error: Error) -> Error {
        let Error::ServerUnavailable(why) = error else { return error };
        Error::ServerUnavailable(format!("{why} ({})", self.connections.address.shown()))
    }

    /// Closes every connection, after their present statements.
    pub async fn close(&self) {
        self.leadership.lock().await.take();
        self.applicant.lock().await.take();
        self.watch.lock().await.disconnect();
        self.connections.ddl.close().await;
        self.connections.background.close().await;
        self.connections.catalog.close().await;
    }
}

fn no_answer(after: Duration) -> Error {
    Error::ServerUnavailable(format!("it gave no answer within {} s", after.as_secs()))
}

/// Waits for an answer of the server, at most for this time.
pub(crate) async fn answer_within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, impl Into<PgError>>>,
) -> Result<T> {
    timeout(limit, answer).await.map_err(|_| no_answer(limit))?.map_err(Into::into)
}

/// Work of milliseconds, on a thread that no task waits for.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, sqlx::Error> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(std::io::Error::from)?)
}

/// The connection whose session holds the lock of leadership.
pub(crate) struct Leadership {
    pub(crate) connection: PgConnection,
    /// The time of the last successful statement on it.
    pub(crate) used: Instant,
    pub(crate) session: Session,
}

/// A session as the server knows it. Process ids are reused, so the session's start identifies it too.
pub(crate) struct Session {
    pub(crate) process: i32,
    pub(crate) began: String,
}

/// Directories that belong to no visible database, each with a transaction number assigned after it was first seen. A directory that a
/// clone is just writing looks the same, until the transactions that were running then have ended.
pub(crate) type Suspects = BTreeMap<u32, i64>;
