//! A session of a test: fills the template, writes, and compares a database with the template.

use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::error::{BenchError, context};

/// A session.
pub(crate) struct Session(PgConnection);

impl Session {
    pub(crate) async fn connect(url: &str) -> Result<Self, sqlx::Error> {
        Self::connect_with(&PgConnectOptions::from_str(url)?).await
    }

    pub(crate) async fn connect_with(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        PgConnection::connect_with(&options.clone().disable_statement_logging()).await.map(Self)
    }

    /// Runs the SQL that makes a template's contents.
    pub(crate) async fn run(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(&mut self.0).await.map(|_| ())
    }

    /// Writes one row; whether the tables and the rows of the table were those of the template before. Cheap, because both sides of the
    /// comparison with plain Postgres do it in each cycle.
    pub(crate) async fn write(&mut self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(
            "insert into orders_entries (title) values ('written by the benchmark') returning
                 (select count(*) = 40 from orders_entries)
                 and (select count(*) = 50 from pg_tables where schemaname = 'public')",
        )
        .fetch_one(&mut self.0)
        .await
    }

    /// Prepares [`Session::truncate_and_reload`].
    pub(crate) async fn save_reference_data(&mut self) -> Result<(), sqlx::Error> {
        self.run(include_str!("reference.sql")).await
    }

    /// Empties all tables and loads the reference data again, in one message.
    pub(crate) async fn truncate_and_reload(&mut self) -> Result<(), sqlx::Error> {
        self.run("call reference.reload()").await
    }

    /// Commits a table and a row, and opens a transaction that holds locks.
    pub(crate) async fn make_dirty(&mut self) -> Result<(), sqlx::Error> {
        self.run("create table left_behind (id int); insert into left_behind values (1)").await?;
        self.run("begin; update orders_entries set title = 'changed'; truncate support_events").await
    }

    /// The database's name, and a digest of every row in schema `public`, of the relations of all schemas, and of the sequences.
    pub(crate) async fn inspect(&mut self) -> Result<(String, String), sqlx::Error> {
        sqlx::query_as(
            r"select current_database()::text, md5(concat(
                  schema_to_xml('public', true, false, ''),
                  (select string_agg(concat_ws('.', n.nspname, c.relname, c.relkind), ' ' order by n.nspname, c.relname)
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace
                   where n.nspname not like 'pg\_%' and n.nspname <> 'information_schema'),
                  (select string_agg(concat_ws('.', sequencename, last_value), ' ' order by sequencename) from pg_sequences)))",
        )
        .fetch_one(&mut self.0)
        .await
    }

    /// Whether the server has ended the session.
    pub(crate) async fn has_ended(&mut self) -> bool {
        sqlx::query("select 1").execute(&mut self.0).await.is_err()
    }

    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        self.0.close().await
    }
}

/// Compares a leased database with the template.
pub(crate) async fn expect_clean(url: &str, database: &str, digest: &str) -> Result<(), BenchError> {
    let mut session = context("a lease's login", Session::connect(url).await)?;
    let (name, found) = context("a query", session.inspect().await)?;
    context("a disconnect", session.close().await)?;
    if name != database {
        return Err(BenchError::Broken(format!("the URL of {database} leads to {name}")));
    }
    if found != digest {
        return Err(dirty(database));
    }
    Ok(())
}

/// The error for a database that is not as its template.
pub(crate) fn dirty(database: &str) -> BenchError {
    BenchError::Broken(format!("{database} was leased and is not as its template"))
}
