//! Clients that bypass pgdibs: holders that connect, and an administrator that creates, drops and renames.

use std::time::{Duration, Instant};

use pgdibs_core::lease::Credentials;
use pgdibs_core::name::RoleName;
use pgdibs_testing::cluster::Cluster;
use pgdibs_testing::conformance::ConformanceServer;
use pgdibs_testing::wait::DEADLINE;
use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};

pub(crate) struct External {
    superuser: PgConnectOptions,
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl External {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self { superuser: cluster.superuser_options("postgres") }
    }

    async fn as_superuser(&self, database: &str) -> PgConnection {
        PgConnection::connect_with(&self.superuser.clone().database(database)).await.unwrap()
    }

    async fn run(&self, sql: String) {
        let mut connection = self.as_superuser("postgres").await;
        if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut connection).await {
            panic!("{sql}: {error}");
        }
        connection.close().await.unwrap();
    }

    async fn count(&self, sql: &'static str, database: &str) -> i64 {
        let mut connection = self.as_superuser("postgres").await;
        let count = sqlx::query_scalar(sql).bind(database).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        count
    }

    /// Waits for a count. (An async closure that borrows would not be `Send`.)
    async fn until_count(&self, sql: &'static str, database: &str, wanted: i64) {
        let started = Instant::now();
        loop {
            let seen = self.count(sql, database).await;
            if seen == wanted {
                return;
            }
            assert!(started.elapsed() < DEADLINE, "not {wanted} in {DEADLINE:?} but {seen}: {sql} of {database}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl ConformanceServer for External {
    type Session = PgConnection;

    async fn connect(&self, credentials: &Credentials, database: &str) -> Result<PgConnection, String> {
        let options = PgConnectOptions::new_without_pgpass()
            .host(self.superuser.get_host())
            .port(self.superuser.get_port())
            .username(&credentials.user)
            .password(credentials.password.expose_secret())
            .database(database);
        PgConnection::connect_with(&options).await.map_err(|error| error.to_string())
    }

    async fn disconnect(&self, session: PgConnection) {
        // The server may have ended it already.
        let _ = session.close().await;
    }

    async fn write(&self, session: &mut PgConnection, mark: &str) -> Result<(), String> {
        let made = sqlx::raw_sql(
            "set client_min_messages = warning;
             create table if not exists marks (number bigint generated always as identity, mark text not null)",
        )
        .execute(&mut *session)
        .await;
        made.map_err(|error| error.to_string())?;
        let written = sqlx::query("insert into marks (mark) values ($1)").bind(mark).execute(session).await;
        written.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn read(&self, session: &mut PgConnection) -> Result<Vec<String>, String> {
        let there: bool = sqlx::query_scalar("select to_regclass('marks') is not null")
            .fetch_one(&mut *session)
            .await
            .map_err(|error| error.to_string())?;
        if !there {
            return Ok(Vec::new());
        }
        sqlx::query_scalar("select mark from marks order by number")
            .fetch_all(session)
            .await
            .map_err(|error| error.to_string())
    }

    async fn connect_externally(&self, database: &str) {
        self.run(format!("alter database {} allow_connections = true", quoted(database))).await;
        self.as_superuser(database).await.close().await.unwrap();
        let sql =
            "select count(*) from pg_database where datname = $1 and coalesce(pg_stat_get_db_sessions(oid), 0) > 0";
        self.until_count(sql, database, 1).await;
    }

    async fn create_externally(&self, database: &str) {
        self.run(format!("create database {}", quoted(database))).await;
    }

    async fn drop_externally(&self, database: &str) {
        let template = "select count(*) from pg_database where datname = $1 and datistemplate";
        if self.count(template, database).await > 0 {
            self.run(format!("alter database {} is_template = false", quoted(database))).await;
        }
        self.run(format!("drop database if exists {} with (force)", quoted(database))).await;
    }

    async fn rename_externally(&self, database: &str, to: &str) {
        let name = quoted(database);
        self.run(format!("alter database {name} allow_connections = false")).await;
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $1";
        self.until_count(sql, database, 0).await;
        self.run(format!("alter database {name} rename to {}", quoted(to))).await;
        self.run(format!("alter database {} allow_connections = true", quoted(to))).await;
    }

    async fn logins(&self) -> Vec<String> {
        let mut connection = self.as_superuser("postgres").await;
        let roles: Vec<String> = sqlx::query_scalar("select rolname::text from pg_roles order by 1")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        roles.into_iter().filter(|name| RoleName::is_generated_login(name)).collect()
    }

    async fn has_owner(&self, role: &RoleName) -> bool {
        self.count("select count(*) from pg_roles where rolname = $1 and not rolcanlogin", role.as_str()).await == 1
    }
}

pub(crate) async fn session(options: &PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(options).await.unwrap()
}
