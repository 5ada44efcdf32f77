//! A database that a transfer reads or fills, and the programs of Postgres that do it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use pgdibs::Client;
use pgdibs::api::pool::LoginRights;
use pgdibs::api::status::Status;
use pgdibs::connection_url::libpq_variables;
use pgdibs_server::offline::{SearchRoots, find_client_programs};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::super::error::CliError;
use super::file::Contents;

/// Restores have psql run the SQL of pg_restore.
const PROGRAMS: [&str; 3] = ["pg_dump", "pg_restore", "psql"];

/// The directory with the programs for a server of this major version.
pub(super) fn find_programs(major: u32, configured: Option<&Path>) -> Result<PathBuf, CliError> {
    find_client_programs(&PROGRAMS, major, configured, &SearchRoots::of_this_system()).map_err(|older| {
        let there = match (older.as_slice(), configured) {
            ([], Some(directory)) => format!("{} does not have them", directory.display()),
            ([], None) => "this machine does not have them".to_owned(),
            (majors, _) => {
                let majors: Vec<String> = majors.iter().map(u32::to_string).collect();
                format!("those that are there are of version {}", majors.join(" and "))
            }
        };
        CliError::failed(format!(
            "a transfer needs pg_dump, pg_restore and psql of version {major}, that of the server, or newer; {there}"
        ))
        .hint(format!(
            "install them (Debian, Ubuntu: apt-get install postgresql-client-{major}, from apt.postgresql.org if need be), or name their \
             directory in PGDIBS_PG_BIN_DIR"
        ))
    })
}

/// The roles of a pool, which the query of the contents needs.
#[derive(Debug, Deserialize)]
pub(super) struct PoolRoles {
    pub(super) owner: String,
    pub(super) roles: Vec<String>,
    /// The rights of its logins, which its builds have if they are those of a superuser.
    pub(super) login: LoginRights,
}

/// A database and the programs for it.
#[derive(Debug)]
pub(super) struct Connection {
    variables: Vec<(&'static str, String)>,
    programs: PathBuf,
}

impl Connection {
    pub(super) fn new(url: &str, programs: PathBuf) -> Result<Self, CliError> {
        Ok(Self { variables: libpq_variables(url)?, programs })
    }

    /// One of the programs. It ends when it is dropped.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env_remove("LC_ALL").env("LC_MESSAGES", "C").kill_on_drop(true).stdin(Stdio::null());
        command
    }

    /// What the dump of this database does not have. With `open`, also makes pg_dump's work possible: it refuses to read a table whose owner
    /// is subject to row-level security.
    pub(super) async fn contents(&self, pool: &PoolRoles, open: bool) -> Result<Contents, CliError> {
        const OPEN: &str = "select format('alter table %I.%I no force row level security', n.nspname, c.relname)
            from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relforcerowsecurity \\gexec\n";
        let mut psql = self.command("psql");
        psql.args(["-XAtqw", "-v", "ON_ERROR_STOP=1", "-v", &format!("owner={}", pool.owner)]);
        psql.args(["-v", &format!("roles={}", Value::from(pool.roles.clone())), "-f", "-"]);
        let child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| cannot_run("psql", &error))?;
        if let Some(mut stdin) = child.stdin.take() {
            let sql = format!("{}{}", include_str!("contents.sql"), if open { OPEN } else { "" });
            // If psql has ended, its status says so.
            let _ended = stdin.write_all(sql.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(|error| cannot_run("psql", &error))?;
        if !output.status.success() {
            return Err(failed("psql", &output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

pub(super) fn cannot_run(program: &str, error: &std::io::Error) -> CliError {
    CliError::failed(format!("cannot run {program}: {error}"))
}

/// The error of a program, with the last lines that it printed.
pub(super) fn failed(program: &str, stderr: &[u8]) -> CliError {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    CliError::failed(format!("{program} failed: {}", lines[lines.len().saturating_sub(5)..].join("\n")))
}

/// The major version of the daemon's server.
pub(super) async fn server_major(client: &Client) -> Result<u32, CliError> {
    let status: Status = client.get("/v1/status").await?.json()?;
    let version = status.server.version.unwrap_or_default();
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| {
        let detail = status.server.detail.unwrap_or_else(|| "it has not answered yet".to_owned());
        CliError::failed(format!("the daemon does not know the version of its server: {detail}"))
    })
}
