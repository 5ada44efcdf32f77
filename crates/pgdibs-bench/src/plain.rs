//! The benchmark's SQL: fills its template, uses a database as a test does, and creates and drops databases without pgdibs.

use std::str::FromStr as _;
use std::time::Duration;

use pgdibs_core::name::{DatabaseName, Fingerprint, PoolName, RoleName};
use pgdibs_core::pool::Strategy;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use pgdibs_postgres::ddl::{self, LocaleClauses, LoginKind};
use pgdibs_postgres::rights::Rights;
use pgdibs_postgres::scram;

/// The tables of the template and their rows.
const TEMPLATE: &str = include_str!("template.sql");

/// The interval at which the end of a session is polled, the same as the daemon's.
const POLL: Duration = Duration::from_micros(700);

/// A session of a test.
pub struct Session(PgConnection);

impl Session {
    /// Connects with the password of the URL.
    ///
    /// # Errors
    /// The error of Postgres.
    pub async fn connect(url: &str) -> Result<Self, sqlx::Error> {
        PgConnection::connect_with(&PgConnectOptions::from_str(url)?.disable_statement_logging()).await.map(Self)
    }

    /// Creates the template's tables and rows.
    ///
    /// # Errors
    /// The error of Postgres.
    pub async fn fill_template(&mut self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(TEMPLATE).execute(&mut self.0).await.map(|_| ())
    }

    /// Writes one row; whether the database was as the template before.
    ///
    /// # Errors
    /// The error of Postgres.
    pub async fn write(&mut self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(concat!(
            "insert into orders_entries (title) values ('written by the benchmark') returning\n",
            include_str!("is_clean.sql")
        ))
        .fetch_one(&mut self.0)
        .await
    }

    /// Prepares [`Session::truncate_and_reload`].
    ///
    /// # Errors
    /// The error of Postgres.
    pub async fn save_reference_data(&mut self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(include_str!("reference.sql")).execute(&mut self.0).await.map(|_| ())
    }

    /// Empties all tables and loads the reference data again, in one message.
    ///
    /// # Errors
    /// The error of Postgres.
    pub async fn truncate_and_reload(&mut self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql("call reference.reload()").execute(&mut self.0).await.map(|_| ())
    }

    /// Commits a table and a row, and opens a transaction that holds locks.
    ///
    /// # Errors
    /// The error of Postgres.
    pub async fn make_dirty(&mut self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql("create table left_behind (id int); insert into left_behind values (1)")
            .execute(&mut self.0)
            .await?;
        sqlx::raw_sql("begin; update orders_entries set title = 'changed'; truncate support_events")
            .execute(&mut self.0)
            .await
            .map(|_| ())
    }

    /// The database's name, and whether it has no change of [`Session::make_dirty`] or [`Session::write`].
    ///
    /// # Errors
    /// The error of Postgres.
    pub async fn inspect(&mut self) -> Result<(String, bool), sqlx::Error> {
        sqlx::query_as(concat!("select current_database()::text,\n", include_str!("is_clean.sql")))
            .fetch_one(&mut self.0)
            .await
    }

    /// Whether the server has ended the session.
    pub async fn has_ended(&mut self) -> bool {
        sqlx::query("select 1").execute(&mut self.0).await.is_err()
    }

    /// Disconnects.
    ///
    /// # Errors
    /// The error of Postgres.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        self.0.close().await
    }
}

/// A thread of plain Postgres: a superuser's permanent connection, and an ordinary login that uses the databases.
pub struct Plain {
    superuser: PgConnection,
    name: DatabaseName,
    as_made: DatabaseName,
    sealed: DatabaseName,
    url: String,
}

/// The ordinary login of all plain threads.
const LOGIN: &str = "pgdibs_bench_plain";

/// The prefix of the databases of plain threads. No pool has this name, so the daemon ignores them.
const PREFIX: &str = "pgdibs_bench_plain";

/// What the plain threads share: their login, a template from the same SQL as the daemon's, but not sealed, and the daemon's.
pub struct PlainSetting {
    superuser_url: SecretString,
    password: String,
    as_made: DatabaseName,
    sealed: DatabaseName,
}

impl PlainSetting {
    /// Creates login and template. The login acts as the owner role of `pool`, as the leases of that pool do; `sealed` is its template.
    ///
    /// # Errors
    /// The error of Postgres.
    pub async fn create(superuser_url: &SecretString, pool: &str, sealed: &str) -> Result<Self, sqlx::Error> {
        let of_pool = PoolName::parse(pool).map_err(invalid)?;
        let sealed =
            DatabaseName::recognise(&of_pool, sealed).ok_or_else(|| sqlx::Error::Decode("no template".into()))?;
        let mut connection = superuser(superuser_url).await?;
        let login = RoleName::parse("login", LOGIN).map_err(invalid)?;
        let owner = RoleName::of_pool(&of_pool);
        let password = uuid::Uuid::new_v4().simple().to_string();
        let verifier = scram::verifier(&password);
        ddl::create_login(&login, &verifier, &owner, LoginKind::plain(Rights::Superuser)).run(&mut connection).await?;
        let pool = PoolName::parse(PREFIX).map_err(invalid)?;
        let template = DatabaseName::template(&pool, &Fingerprint::parse("plain").map_err(invalid)?);
        ddl::create_build(&template, &owner, &LocaleClauses::default()).run(&mut connection).await?;
        ddl::open_to_the_daemon(&template).run(&mut connection).await?;
        connection.close().await?;
        let options = PgConnectOptions::from_str(superuser_url.expose_secret())?.database(template.as_str());
        let mut inside = PgConnection::connect_with(&options.disable_statement_logging()).await?;
        ddl::give_public_schema(&owner).run(&mut inside).await?;
        ddl::act_as(&owner).run(&mut inside).await?;
        sqlx::raw_sql(TEMPLATE).execute(&mut inside).await?;
        inside.close().await?;
        Ok(Self { superuser_url: superuser_url.clone(), password, as_made: template, sealed })
    }
}

/// The template that a plain thread copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainSource {
    /// The template of [`PlainSetting`].
    AsMade,
    /// The template that the daemon has sealed.
    Sealed,
}

impl Plain {
    /// Thread `number`.
    ///
    /// # Errors
    /// The error of Postgres.
    pub async fn new(setting: &PlainSetting, number: u32) -> Result<Self, sqlx::Error> {
        let name = DatabaseName::slot(&PoolName::parse(PREFIX).map_err(invalid)?, number);
        let options = PgConnectOptions::from_str(setting.superuser_url.expose_secret())?;
        let (host, port) = (options.get_host(), options.get_port());
        let url = format!("postgresql://{LOGIN}:{}@{host}:{port}/{}", setting.password, name.as_str());
        let (as_made, sealed) = (setting.as_made.clone(), setting.sealed.clone());
        Ok(Self { superuser: superuser(&setting.superuser_url).await?, name, as_made, sealed, url })
    }

    /// Create, connect, write, disconnect, drop.
    ///
    /// # Errors
    /// The error of Postgres.
    pub async fn cycle(&mut self, source: PlainSource, strategy: Strategy) -> Result<(), sqlx::Error> {
        let template = match source {
            PlainSource::AsMade => &self.as_made,
            PlainSource::Sealed => &self.sealed,
        };
        ddl::plain_copy(&self.name, template, strategy).run(&mut self.superuser).await?;
        let mut session = Session::connect(&self.url).await?;
        let _is_clean = session.write().await?;
        session.close().await?;
        self.wait_for_session_end().await?;
        ddl::drop_database(&self.name).run(&mut self.superuser).await
    }

    /// DROP DATABASE waits 100 ms for a backend that is still exiting. Waiting for the exit first is faster, so the comparison does.
    async fn wait_for_session_end(&mut self) -> Result<(), sqlx::Error> {
        loop {
            let left: bool = sqlx::query_scalar("select exists (select from pg_stat_activity where datname = $1)")
                .bind(self.name.as_str())
                .fetch_one(&mut self.superuser)
                .await?;
            // Also after the last poll: a backend leaves this view slightly before it leaves the list that DROP DATABASE checks.
            tokio::time::sleep(POLL).await;
            if !left {
                return Ok(());
            }
        }
    }
}

/// The server's version, such as `15.18`.
///
/// # Errors
/// The error of Postgres.
pub async fn server_version(superuser_url: &SecretString) -> Result<String, sqlx::Error> {
    let mut superuser = superuser(superuser_url).await?;
    let row =
        sqlx::query("select split_part(current_setting('server_version'), ' ', 1)").fetch_one(&mut superuser).await?;
    superuser.close().await?;
    row.try_get(0)
}

async fn superuser(url: &SecretString) -> Result<PgConnection, sqlx::Error> {
    PgConnection::connect_with(&PgConnectOptions::from_str(url.expose_secret())?.disable_statement_logging()).await
}

fn invalid(error: pgdibs_core::name::InvalidName) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
