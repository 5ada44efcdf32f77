//! A throw-away cluster: non-durable, on loopback, removed with its test, also when the test process is killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgdibs_embedded::{Binaries, SearchRoots, find};
use secrecy::SecretString;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};

use super::seed::{self, PASSWORD, SUPERUSER, other_user, run, unprivileged};
use super::{DEADLINE, until};

/// Stops the server when standard input ends, which it does however the test process ends; ends when the server does.
const SUPERVISOR: &str = r#"exec 3<&0; "$@" </dev/null 3<&- & postgres=$!; (read -r _ <&3; kill -QUIT $postgres 2>/dev/null) & wait $postgres"#;

pub(crate) struct Cluster {
    pub(crate) binaries: Binaries,
    directory: tempfile::TempDir,
    port: u16,
    supervisor: Option<Child>,
    settings: Vec<String>,
}

/// The Postgres programs to test with.
pub(crate) fn all_binaries() -> Vec<Binaries> {
    let roots = SearchRoots::of_this_system();
    let look = |dir: Option<&Path>| find(dir, &roots, None).unwrap_or_else(|error| panic!("{error}"));
    match std::env::var("PGDIBS_TEST_PG_BIN_DIRS") {
        Ok(dirs) => {
            let found: Vec<Binaries> = std::env::split_paths(&dirs).map(|dir| look(Some(&dir))).collect();
            assert!(!found.is_empty(), "PGDIBS_TEST_PG_BIN_DIRS names no directory");
            found
        }
        Err(_) => vec![look(None)],
    }
}

pub(crate) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

impl Cluster {
    pub(crate) async fn start(binaries: &Binaries, settings: &[&str]) -> Self {
        let directory = seed::directory();
        let data = directory.path().join("data");
        run(Command::new("cp").arg("-Rp").arg(seed::of(binaries)).arg(&data));
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut cluster = Self { binaries: binaries.clone(), directory, port: 0, supervisor: None, settings };
        cluster.run().await;
        cluster
    }

    /// Starts the server, on another port when another process took this one.
    pub(crate) async fn run(&mut self) {
        for attempt in 1.. {
            if self.port == 0 {
                self.port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            }
            self.spawn();
            let started = Instant::now();
            loop {
                let options = self.superuser("postgres");
                let connecting = PgConnection::connect_with(&options);
                if matches!(tokio::time::timeout(Duration::from_secs(5), connecting).await, Ok(Ok(_))) {
                    return;
                }
                if self.supervisor.as_mut().unwrap().try_wait().unwrap().is_some() {
                    break;
                }
                assert!(started.elapsed() < DEADLINE, "the server does not answer: {}", self.log());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(attempt < 5, "the server does not start: {}", self.log());
            self.port = 0;
        }
    }

    fn spawn(&mut self) {
        let root = self.directory.path();
        // The shell inherits what `Binaries::command` sets for postgres.
        let postgres = self.binaries.command("postgres");
        let mut command = Command::new("sh");
        command.env_clear();
        for (name, value) in postgres.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.args(["-c", SUPERVISOR, "supervisor"]).arg(postgres.get_program()).arg("-D").arg(self.data());
        command.args(["-p", &self.port.to_string(), "-k"]).arg(root);
        for setting in [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "full_page_writes=off",
            "synchronous_commit=off",
            "max_connections=80",
            "shared_buffers=32MB",
            "max_wal_size=512MB",
        ]
        .into_iter()
        .chain(self.settings.iter().map(String::as_str))
        {
            command.args(["-c", setting]);
        }
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        self.supervisor = Some(unprivileged(command).spawn().unwrap());
    }

    /// Adds a setting, from the next start on.
    pub(crate) fn configure(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    /// Ends the server without a checkpoint, as a crash would.
    pub(crate) fn crash(&mut self) {
        if let Some(mut supervisor) = self.supervisor.take() {
            drop(supervisor.stdin.take());
            let _ = supervisor.wait();
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Writes a file into the data directory that only the server can read.
    pub(crate) fn put_file(&self, name: &str, contents: &[u8]) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.data().join(name);
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(user) = other_user() {
            nix::unistd::chown(&path, Some(user.uid), Some(user.gid)).unwrap();
        }
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn options(&self, user: &str, password: &str, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(user)
            .password(password)
            .database(database)
    }

    pub(crate) fn superuser(&self, database: &str) -> PgConnectOptions {
        self.options(SUPERUSER, PASSWORD, database)
    }

    /// The server's URL for a role.
    pub(crate) fn url(&self, user: &str, password: &str) -> SecretString {
        format!("postgresql://{}:{}@127.0.0.1:{}/postgres", encoded(user), encoded(password), self.port).into()
    }

    pub(crate) fn superuser_url(&self) -> SecretString {
        self.url(SUPERUSER, PASSWORD)
    }

    /// Runs SQL as the superuser, in one database.
    #[track_caller]
    pub(crate) fn sql(&self, database: &str, sql: &str) -> impl Future<Output = ()> + Send + use<> {
        let (options, sql) = (self.superuser(database), sql.to_owned());
        async move {
            let mut connection = PgConnection::connect_with(&options).await.unwrap();
            if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut connection).await {
                panic!("{sql}: {error}");
            }
            connection.close().await.unwrap();
        }
    }

    /// The one text that a query as the superuser gives, in one database.
    pub(crate) async fn text(&self, database: &str, sql: &str) -> String {
        let mut connection = PgConnection::connect_with(&self.superuser(database)).await.unwrap();
        let text = sqlx::query_scalar(AssertSqlSafe(format!("select ({sql})::text"))).fetch_one(&mut connection).await;
        connection.close().await.unwrap();
        text.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Waits until a query as the superuser gives a text.
    pub(crate) async fn until_text(&self, database: &str, sql: &str, wanted: &str) {
        until(sql, async || {
            let seen = self.text(database, sql).await;
            if seen == wanted { Ok(()) } else { Err(seen) }
        })
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.char_indices().rev().nth(6000).map_or(0, |(at, _)| at);
            println!("the end of the log of {}:\n{}", self.binaries.dir.display(), &log[from..]);
        }
        self.crash();
    }
}
