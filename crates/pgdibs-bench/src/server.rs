//! Postgres servers of the benchmark's own, and what it does on a server outside of any pool.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use pgdibs_embedded::{Embedded, EmbeddedOptions};
use pgdibs_postgres::public_connect::PgProbe;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::args::Options;
use crate::error::{BenchError, context};
use crate::plain;

/// The memory that a run needs for WAL and a few dozen databases.
const MIN_FREE_BYTES: u64 = 2 << 30;

/// How long a server outlives a benchmark that was killed.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// The parent of data directories: in memory when it has enough space, and never a directory that a daemon of the user chooses.
pub(crate) fn data_parent() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if free_bytes(memory) >= MIN_FREE_BYTES { memory.to_owned() } else { std::env::temp_dir() }
}

#[allow(clippy::unnecessary_cast, reason = "narrower types than u64 on other systems than Linux")]
fn free_bytes(directory: &Path) -> u64 {
    statvfs(directory).map_or(0, |stat| stat.blocks_available() as u64 * stat.fragment_size() as u64)
}

/// Starts a server with the settings of the embedded one and this many connections.
pub(crate) async fn start(options: &Options, data_dir: &Path, max_connections: u32) -> Result<Embedded, BenchError> {
    let failed = |error| BenchError::Daemon(format!("cannot be started: no path of this program: {error}"));
    let settings = EmbeddedOptions {
        data_dir: Some(data_dir.to_owned()),
        bin_dir: options.pg_bin_dir.clone(),
        listen: None,
        linger: LINGER,
        max_connections,
        supervisor_exe: options.program().map_err(failed)?,
    };
    Ok(pgdibs_embedded::start(&settings, &PgProbe, |_| ()).await?)
}

/// A superuser's session beside the daemon, for facts about the server.
pub(crate) struct Admin(PgConnection);

impl Admin {
    pub(crate) async fn connect(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        PgConnection::connect_with(&options.clone().disable_statement_logging()).await.map(Self)
    }

    /// Date, version such as `15.18`, major version.
    pub(crate) async fn about(&mut self) -> Result<(String, String, i32), sqlx::Error> {
        sqlx::query_as(
            "select current_date::text, split_part(current_setting('server_version'), ' ', 1),
                    current_setting('server_version_num')::int / 10000",
        )
        .fetch_one(&mut self.0)
        .await
    }

    pub(crate) async fn socket_directory(&mut self) -> Result<String, sqlx::Error> {
        sqlx::query_scalar("select current_setting('unix_socket_directories')").fetch_one(&mut self.0).await
    }

    /// Whether pgdibs has a catalog on this server.
    pub(crate) async fn has_catalog(&mut self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("select exists (select from pg_database where datname = 'pgdibs')")
            .fetch_one(&mut self.0)
            .await
    }

    /// Prepares [`Admin::acquire_statement`], for the next start of the server; false if the extension is not installed.
    pub(crate) async fn load_statistics(&mut self) -> Result<bool, sqlx::Error> {
        let installed = "select exists (select from pg_available_extensions where name = 'pg_stat_statements')";
        let installed = sqlx::query_scalar(installed).fetch_one(&mut self.0).await?;
        if installed {
            sqlx::raw_sql("alter system set shared_preload_libraries = pg_stat_statements")
                .execute(&mut self.0)
                .await?;
        }
        Ok(installed)
    }

    /// Starts to count.
    pub(crate) async fn reset_statistics(&mut self) -> Result<(), sqlx::Error> {
        let sql = "create extension if not exists pg_stat_statements; select pg_stat_statements_reset()";
        sqlx::raw_sql(sql).execute(&mut self.0).await.map(|_| ())
    }

    /// The mean milliseconds in which the server has executed the statement that acquires; `None` if it has not.
    pub(crate) async fn acquire_statement(&mut self) -> Result<Option<f64>, sqlx::Error> {
        sqlx::query_scalar(
            "select sum(total_exec_time) / nullif(sum(calls), 0) from pg_stat_statements
             where query like '%insert into leases%' and query like '%update databases set state = %'",
        )
        .fetch_one(&mut self.0)
        .await
    }

    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        self.0.close().await
    }
}

/// The options of the superuser of an own server, by TCP.
pub(crate) fn superuser(url: &SecretString) -> Result<PgConnectOptions, BenchError> {
    context("its URL", plain::options(url.expose_secret()))
}
