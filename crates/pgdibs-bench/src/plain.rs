//! The plain side: a caller that creates and drops its databases without pgdibs, as fast as Postgres allows.

use std::str::FromStr as _;
use std::time::{Duration, Instant};

use pgdibs_core::name::{DatabaseName, Fingerprint, InvalidName, PoolName};
use pgdibs_core::pool::Strategy;
use pgdibs_postgres::ddl;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::task::JoinSet;

use crate::session::Session;
use crate::template::LARGE;

/// The prefix of the databases of the plain side. No pool has this name, so the daemon ignores them.
const PREFIX: &str = "pgdibs_bench_plain";

/// The interval at which the end of a session is polled, the same as the daemon's.
const POLL: Duration = Duration::from_micros(700);

/// How long removing the databases may take: a connection that was dropped may still run its statement.
const REMOVAL: Duration = Duration::from_secs(20);

/// When a caller drops its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drops {
    AtOnce,
    /// On a second connection, during the caller's next cycle.
    Beside,
}

/// How a plain caller works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    /// `None` on Postgres 14, which has one strategy and no name for it.
    strategy: Option<Strategy>,
    pub(crate) drops: Drops,
}

impl Variant {
    pub(crate) fn all(major: u32) -> Vec<Self> {
        let strategies = if major < 15 { vec![None] } else { vec![Some(Strategy::FileCopy), Some(Strategy::WalLog)] };
        let both = |strategy| [Drops::AtOnce, Drops::Beside].map(|drops| Self { strategy, drops });
        strategies.into_iter().flat_map(both).collect()
    }

    pub(crate) fn name(self) -> String {
        let strategy = self.strategy.map_or("copy", Strategy::as_str);
        let drops = if self.drops == Drops::AtOnce { "drops at once" } else { "drops beside the next cycle" };
        format!("{strategy}, {drops}")
    }
}

/// The server of the plain side and its template, as the SQL left it.
#[derive(Debug, Clone)]
pub(crate) struct PlainServer {
    /// Of the connections that create and drop.
    own: PgConnectOptions,
    /// Of the sessions that use the databases: the same login, by the way that leases use.
    tests: PgConnectOptions,
    template: DatabaseName,
}

impl PlainServer {
    /// Creates a template from the same SQL as the daemon's.
    pub(crate) async fn create(own: PgConnectOptions, tests: PgConnectOptions) -> Result<Self, sqlx::Error> {
        let fingerprint = Fingerprint::parse("plain").map_err(invalid)?;
        let template = DatabaseName::template(&prefix()?, &fingerprint);
        remove(&own).await?;
        let mut connection = connect(&own).await?;
        ddl::plain_copy(&template, "template0", None).run(&mut connection).await?;
        connection.close().await?;
        let mut session = Session::connect_with(&tests.clone().database(template.as_str())).await?;
        session.run(LARGE).await?;
        session.close().await?;
        Ok(Self { own, tests, template })
    }
}

/// Drops every database of the plain side.
pub(crate) async fn remove(own: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let mut connection = connect(own).await?;
    let prefix = prefix()?;
    let deadline = Instant::now() + REMOVAL;
    loop {
        let names: Vec<String> =
            sqlx::query_scalar("select datname::text from pg_database where starts_with(datname::text, $1)")
                .bind(PREFIX)
                .fetch_all(&mut connection)
                .await?;
        let mut failure = None;
        for name in names.iter().filter_map(|name| DatabaseName::recognise(&prefix, name)) {
            failure = ddl::drop_database(&name).run(&mut connection).await.err().or(failure);
        }
        match failure {
            Some(error) if Instant::now() > deadline => return Err(error),
            Some(_) => tokio::time::sleep(POLL).await,
            None => return connection.close().await,
        }
    }
}

/// A caller with its kept connections.
pub(crate) struct Plain {
    server: PlainServer,
    creates: PgConnection,
    /// The connection that drops, and its drop if one runs.
    drops: Option<PgConnection>,
    dropping: JoinSet<Result<PgConnection, sqlx::Error>>,
    names: Vec<DatabaseName>,
}

impl Plain {
    /// Caller `number` of the side.
    pub(crate) async fn new(server: &PlainServer, number: u32) -> Result<Self, sqlx::Error> {
        let prefix = prefix()?;
        // One is dropped while the next one is created.
        let names = (0..2).map(|half| DatabaseName::slot(&prefix, number * 2 + half)).collect();
        Ok(Self {
            creates: connect(&server.own).await?,
            drops: Some(connect(&server.own).await?),
            dropping: JoinSet::new(),
            server: server.clone(),
            names,
        })
    }

    /// Create, connect, write, disconnect, drop. Returns how long the create took, in milliseconds, and whether the copy was as its template.
    pub(crate) async fn cycle(&mut self, variant: Variant) -> Result<(f64, bool), sqlx::Error> {
        let (name, server) = (self.names[0].clone(), &self.server);
        self.names.rotate_left(1);
        let started = Instant::now();
        ddl::plain_copy(&name, server.template.as_str(), variant.strategy).run(&mut self.creates).await?;
        let waited = started.elapsed().as_secs_f64() * 1000.0;
        let mut session = Session::connect_with(&server.tests.clone().database(name.as_str())).await?;
        let is_clean = session.write().await?;
        session.close().await?;
        self.finish().await?;
        if let Some(mut drops) = self.drops.take() {
            self.dropping.spawn(async move {
                drop_unused(&mut drops, &name).await?;
                Ok(drops)
            });
        }
        if variant.drops == Drops::AtOnce {
            self.finish().await?;
        }
        Ok((waited, is_clean))
    }

    /// Waits for the drop that runs.
    pub(crate) async fn finish(&mut self) -> Result<(), sqlx::Error> {
        while let Some(ended) = self.dropping.join_next().await {
            self.drops = Some(ended.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))??);
        }
        Ok(())
    }
}

/// DROP DATABASE waits 100 ms for a backend that is still exiting. Waiting for the exit first is faster.
async fn drop_unused(connection: &mut PgConnection, name: &DatabaseName) -> Result<(), sqlx::Error> {
    loop {
        let left: bool = sqlx::query_scalar("select exists (select from pg_stat_activity where datname = $1)")
            .bind(name.as_str())
            .fetch_one(&mut *connection)
            .await?;
        // Also after the last poll: a backend leaves this view slightly before it leaves the list that DROP DATABASE checks.
        tokio::time::sleep(POLL).await;
        if !left {
            return ddl::drop_database(name).run(connection).await;
        }
    }
}

fn prefix() -> Result<PoolName, sqlx::Error> {
    PoolName::parse(PREFIX).map_err(invalid)
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    PgConnection::connect_with(&options.clone().disable_statement_logging()).await
}

/// The options of a URL.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    PgConnectOptions::from_str(url)
}

fn invalid(error: InvalidName) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
