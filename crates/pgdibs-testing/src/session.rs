//! A session on a database, like that of an application under test.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::wait::block;

/// A session; the drop closes it.
pub struct Session(Option<PgConnection>);

impl Session {
    #[track_caller]
    pub fn open(url: &str) -> Self {
        Self::try_open(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    pub fn try_open(url: &str) -> Result<Self, sqlx::Error> {
        Ok(Self(Some(block(PgConnection::connect(url))?)))
    }

    /// Connects to the database of a lease.
    #[track_caller]
    pub fn of(lease: &serde_json::Value) -> Self {
        Self::open(lease["url"].as_str().unwrap_or_else(|| panic!("no url: {lease}")))
    }

    #[track_caller]
    pub fn run(&mut self, sql: &str) {
        if let Err(error) = self.try_run(sql) {
            panic!("{sql}: {error}");
        }
    }

    pub fn try_run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        block(sqlx::raw_sql(AssertSqlSafe(sql)).execute(self.0.as_mut().unwrap())).map(|_| ())
    }

    /// Starts a COPY that waits for data for ever.
    #[track_caller]
    pub fn begin_copy_in(&mut self, sql: &str) {
        let copy = block(self.0.as_mut().unwrap().copy_in_raw(sql)).unwrap();
        // The drop would end the COPY.
        std::mem::forget(copy);
    }

    /// Starts a COPY without reading its data.
    #[track_caller]
    pub fn begin_copy_out(&mut self, sql: &str) {
        let copy = block(self.0.as_mut().unwrap().copy_out_raw(sql)).unwrap();
        drop(copy);
    }

    /// The server's major version.
    #[track_caller]
    pub fn major(&mut self) -> u32 {
        self.text("select current_setting('server_version_num')::int / 10000").parse().unwrap()
    }

    /// The single value of a query as text; `-` if there is no row or the value is null.
    #[track_caller]
    pub fn text(&mut self, sql: &str) -> String {
        self.try_text(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub fn try_text(&mut self, sql: &str) -> Result<String, sqlx::Error> {
        let query = sqlx::query_scalar(AssertSqlSafe(format!("select ({sql})::text")));
        let value: Option<Option<String>> = block(query.fetch_optional(self.0.as_mut().unwrap()))?;
        Ok(value.flatten().unwrap_or_else(|| "-".to_owned()))
    }

    /// The sorted texts of the single column of a query.
    #[track_caller]
    pub fn list(&mut self, sql: &str) -> Vec<String> {
        self.try_list(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub fn try_list(&mut self, sql: &str) -> Result<Vec<String>, sqlx::Error> {
        let query = sqlx::query_scalar(AssertSqlSafe(sql));
        let mut texts: Vec<String> = block(query.fetch_all(self.0.as_mut().unwrap()))?;
        texts.sort();
        Ok(texts)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            // The server may have ended it, as some tests intend.
            let _ = block(connection.close());
        }
    }
}
