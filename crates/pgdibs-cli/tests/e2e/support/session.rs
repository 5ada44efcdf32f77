//! A session on a database, as a test's application would have it.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::block;

/// A session; closed when it is dropped.
pub(crate) struct Session(Option<PgConnection>);

impl Session {
    #[track_caller]
    pub(crate) fn open(url: &str) -> Self {
        Self::try_open(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    pub(crate) fn try_open(url: &str) -> Result<Self, sqlx::Error> {
        Ok(Self(Some(block(PgConnection::connect(url))?)))
    }

    /// On the database of a lease.
    #[track_caller]
    pub(crate) fn of(lease: &serde_json::Value) -> Self {
        Self::open(lease["url"].as_str().unwrap_or_else(|| panic!("no url: {lease}")))
    }

    #[track_caller]
    pub(crate) fn run(&mut self, sql: &str) {
        if let Err(error) = self.try_run(sql) {
            panic!("{sql}: {error}");
        }
    }

    pub(crate) fn try_run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        block(sqlx::raw_sql(AssertSqlSafe(sql)).execute(self.0.as_mut().unwrap())).map(|_| ())
    }

    /// Begins a COPY that waits for data which never comes.
    #[track_caller]
    pub(crate) fn begin_copy_in(&mut self, sql: &str) {
        let copy = block(self.0.as_mut().unwrap().copy_in_raw(sql)).unwrap();
        // Dropped, it would tell the server that it is over.
        std::mem::forget(copy);
    }

    /// Begins a COPY whose data nobody reads.
    #[track_caller]
    pub(crate) fn begin_copy_out(&mut self, sql: &str) {
        let copy = block(self.0.as_mut().unwrap().copy_out_raw(sql)).unwrap();
        drop(copy);
    }

    /// The server's major version.
    #[track_caller]
    pub(crate) fn major(&mut self) -> u32 {
        self.text("select current_setting('server_version_num')::int / 10000").parse().unwrap()
    }

    /// The one value that a query gives, as text; `-` when there is no row or it is null.
    #[track_caller]
    pub(crate) fn text(&mut self, sql: &str) -> String {
        self.try_text(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) fn try_text(&mut self, sql: &str) -> Result<String, sqlx::Error> {
        let query = sqlx::query_scalar(AssertSqlSafe(format!("select ({sql})::text")));
        let value: Option<Option<String>> = block(query.fetch_optional(self.0.as_mut().unwrap()))?;
        Ok(value.flatten().unwrap_or_else(|| "-".to_owned()))
    }

    /// The texts of a query's only column, sorted.
    #[track_caller]
    pub(crate) fn list(&mut self, sql: &str) -> Vec<String> {
        self.try_list(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) fn try_list(&mut self, sql: &str) -> Result<Vec<String>, sqlx::Error> {
        let query = sqlx::query_scalar(AssertSqlSafe(sql));
        let mut texts: Vec<String> = block(query.fetch_all(self.0.as_mut().unwrap()))?;
        texts.sort();
        Ok(texts)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            // It may have been ended from the other side; that was then the point of the test.
            let _ = block(connection.close());
        }
    }
}
