//! A given server, which the test starts, kills and restarts: non-durable, on loopback, removed with its test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use nix::sys::signal::Signal;
pub use pgdibs_embedded::Binaries;
use pgdibs_embedded::{SearchRoots, find};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::logs::keep_log;
use crate::process::{give_away, number_in, signal, unprivileged};
use crate::seed::{PASSWORD, SUPERUSER, copy_seed, directory, directory_in, initialise};
use crate::session::Session;
use crate::wait::{until, until_async};

/// Stops the server when standard input ends, as it does at every end of the test process; ends when the server does.
const KEEPER: &str = r#"exec 3<&0; "$@" </dev/null 3<&- & postgres=$!; (read -r _ <&3; kill -QUIT $postgres 2>/dev/null) & wait $postgres"#;

/// A cluster of its own; the drop deletes it.
pub struct Cluster {
    pub binaries: Binaries,
    directory: tempfile::TempDir,
    port: u16,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    keeper: Mutex<Option<Child>>,
}

/// The Postgres programs from the test's environment; without them tests search for an installation, as the daemon does.
pub fn bin_dir() -> Option<String> {
    std::env::var("PGDIBS_TEST_PG_BIN_DIR").ok().filter(|dir| !dir.is_empty())
}

fn binaries_in(directory: Option<&Path>) -> Binaries {
    find(directory, &SearchRoots::of_this_system(), None).unwrap_or_else(|error| panic!("{error}"))
}

/// The Postgres programs for tests on one server.
pub fn binaries() -> Binaries {
    binaries_in(bin_dir().map(PathBuf::from).as_deref())
}

/// The Postgres programs for tests on each server: those of `PGDIBS_TEST_PG_BIN_DIRS`, separated by colons.
pub fn all_binaries() -> Vec<Binaries> {
    let Ok(directories) = std::env::var("PGDIBS_TEST_PG_BIN_DIRS") else { return vec![binaries()] };
    let found: Vec<_> = std::env::split_paths(&directories).map(|directory| binaries_in(Some(&directory))).collect();
    assert!(!found.is_empty(), "PGDIBS_TEST_PG_BIN_DIRS names no directory");
    found
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

impl Cluster {
    /// The superuser's password, raw, as in URLs and as in JSON.
    pub fn passwords() -> [String; 3] {
        let json = serde_json::json!(PASSWORD).to_string();
        [PASSWORD.to_owned(), encoded(PASSWORD), json[1..json.len() - 1].to_owned()]
    }

    /// A running cluster.
    #[track_caller]
    pub fn start(settings: &[&str]) -> Self {
        Self::start_with(settings, &[])
    }

    /// The same with environment variables for the server.
    #[track_caller]
    pub fn start_with(settings: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_of_with(&binaries(), settings, variables)
    }

    /// The same of this Postgres installation.
    #[track_caller]
    pub fn start_of_with(binaries: &Binaries, settings: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut cluster = Self::create(binaries, directory(), settings);
        cluster.environment = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        cluster.start_first()
    }

    /// The same on another disk.
    #[track_caller]
    pub fn start_on(binaries: &Binaries, disk: &Path, settings: &[&str]) -> Self {
        Self::create(binaries, directory_in(disk), settings).start_first()
    }

    /// The same of this Postgres installation.
    #[track_caller]
    pub fn start_of(binaries: &Binaries, settings: &[&str]) -> Self {
        Self::create(binaries, directory(), settings).start_first()
    }

    /// The same with other arguments for `initdb`, which takes seconds.
    #[track_caller]
    pub fn start_with_initdb(binaries: &Binaries, arguments: &[&str]) -> Self {
        let directory = directory();
        initialise(binaries, directory.path(), arguments);
        Self::of(binaries, directory, &[]).start_first()
    }

    /// A cluster that is not running yet.
    #[track_caller]
    pub fn down(settings: &[&str]) -> Self {
        Self::create(&binaries(), directory(), settings)
    }

    #[track_caller]
    fn create(binaries: &Binaries, directory: tempfile::TempDir, settings: &[&str]) -> Self {
        copy_seed(binaries, &directory.path().join("data"));
        Self::of(binaries, directory, settings)
    }

    fn of(binaries: &Binaries, directory: tempfile::TempDir, settings: &[&str]) -> Self {
        Self {
            binaries: binaries.clone(),
            directory,
            port: free_port(),
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            environment: Vec::new(),
            keeper: Mutex::default(),
        }
    }

    /// The first start: on another port if another process took this one.
    #[track_caller]
    fn start_first(mut self) -> Self {
        for attempt in 1.. {
            self.spawn();
            if self.answers() {
                break;
            }
            assert!(attempt < 5, "the server does not start: {}", self.log());
            self.port = free_port();
        }
        self
    }

    /// Starts the server and waits until it answers.
    #[track_caller]
    pub fn start_again(&self) {
        self.spawn();
        assert!(self.answers(), "the server does not start: {}", self.log());
    }

    /// Waits until the server answers or has ended.
    #[track_caller]
    fn answers(&self) -> bool {
        until("the cluster answers", || {
            let Err(error) = Session::try_open(&self.url()) else { return Ok(true) };
            let ended = self.keeper.lock().unwrap().as_mut().is_none_or(|keeper| keeper.try_wait().unwrap().is_some());
            if ended { Ok(false) } else { Err(format!("{error}; log: {}", self.log())) }
        })
    }

    fn spawn(&self) {
        let mut command = Command::new("sh");
        command.env_clear();
        let postgres = self.binaries.command("postgres");
        command.envs(postgres.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(["-c", KEEPER, "keeper"]).arg(postgres.get_program()).arg("-D").arg(self.data());
        command.args(["-p", &self.port.to_string(), "-k"]).arg(self.directory.path());
        let settings = [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "full_page_writes=off",
            "max_connections=80",
            "shared_buffers=32MB",
            "max_wal_size=512MB",
        ];
        for setting in settings.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        *self.keeper.lock().unwrap() = Some(unprivileged(command).spawn().unwrap());
    }

    /// Adds a setting, from the next start on.
    pub fn configure(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    /// The same as `pg_ctl stop -m immediate`: like a crash, without a checkpoint.
    pub fn crash(&self) {
        self.end(Signal::SIGQUIT);
    }

    /// The same as `pg_ctl stop -m fast`: ends the sessions and makes a checkpoint.
    pub fn stop(&self) {
        self.end(Signal::SIGINT);
    }

    /// `kill -9` of the postmaster; its children end afterwards.
    pub fn kill_postmaster(&self) {
        let pids = self.pids();
        self.end(Signal::SIGKILL);
        until("the postmaster's children have ended", || {
            let left: Vec<_> = pids.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }

    /// Waits until it answers, and starts it again if it has ended.
    #[track_caller]
    pub fn up_again(&self) {
        until("the cluster answers again", || {
            let Err(error) = Session::try_open(&self.url()) else { return Ok(()) };
            if !self.runs() {
                self.dismiss_keeper();
                self.start_again();
            }
            Err(error.to_string())
        });
    }

    /// Whether the postmaster runs. A killed one leaves its pid file.
    fn runs(&self) -> bool {
        let pid = self.postmaster_pid();
        pid > 0 && Path::new(&format!("/proc/{pid}")).exists()
    }

    fn end(&self, how: Signal) {
        let postmaster = self.postmaster_pid();
        if postmaster > 0 {
            signal(postmaster, how);
        }
        if how == Signal::SIGINT {
            // It makes a checkpoint first.
            until("the postmaster has ended", || if self.runs() { Err(String::new()) } else { Ok(()) });
        }
        self.dismiss_keeper();
    }

    /// Its end stops the postmaster if that still runs.
    fn dismiss_keeper(&self) {
        if let Some(mut keeper) = self.keeper.lock().unwrap().take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }

    /// A crash with the loss of all data, like that of a container with its data in memory. The server stays down.
    pub fn lose_all_data(&mut self) {
        self.crash();
        fs::remove_dir_all(self.data()).unwrap();
        copy_seed(&self.binaries, &self.data());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn postmaster_pid(&self) -> i32 {
        number_in(&self.data().join("postmaster.pid")).unwrap_or(0)
    }

    /// All processes of the server, the postmaster first.
    pub fn pids(&self) -> Vec<i32> {
        let postmaster = self.postmaster_pid();
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(postmaster).chain(children).collect()
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Writes a file into the data directory that only the server can read.
    pub fn put_file(&self, name: &str, contents: &[u8]) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.data().join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        give_away(&path);
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The superuser's URL.
    pub fn url(&self) -> String {
        self.superuser_url("postgres")
    }

    /// The superuser's URL through the server's socket.
    pub fn socket_url(&self) -> String {
        let directory = encoded(&self.directory.path().display().to_string());
        format!("postgresql://{SUPERUSER}:{}@/postgres?host={directory}&port={}", encoded(PASSWORD), self.port)
    }

    /// The superuser's URL with another port.
    pub fn url_by(&self, port: u16) -> String {
        format!("postgresql://{SUPERUSER}:{}@127.0.0.1:{port}/postgres", encoded(PASSWORD))
    }

    pub fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{}:{}@127.0.0.1:{}/{database}", encoded(user), encoded(password), self.port)
    }

    /// The superuser's URL of a database.
    pub fn superuser_url(&self, database: &str) -> String {
        self.url_of(SUPERUSER, PASSWORD, database)
    }

    /// A collation with a version, to name after `collate`, and the statement that creates it. Not every build has ICU.
    #[track_caller]
    pub fn versioned_collation(&self) -> (&'static str, &'static str) {
        let mut session = self.superuser("postgres");
        let known = |session: &mut Session, name: &str| {
            session.text(&format!("select count(*) from pg_collation where collname = '{name}'")) != "0"
        };
        if known(&mut session, "en-x-icu") {
            ("\"en-x-icu\"", "")
        } else if known(&mut session, "pg_c_utf8") {
            ("pg_c_utf8", "")
        } else {
            ("versioned", "create collation versioned (provider = libc, locale = 'C', version = '1');")
        }
    }

    /// A session of the superuser.
    #[track_caller]
    pub fn superuser(&self, database: &str) -> Session {
        Session::open(&self.superuser_url(database))
    }

    pub fn options(&self, user: &str, password: &str, database: &str) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.port);
        options.username(user).password(password).database(database)
    }

    pub fn superuser_options(&self, database: &str) -> PgConnectOptions {
        self.options(SUPERUSER, PASSWORD, database)
    }

    /// Runs SQL as the superuser, in one database.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> impl Future<Output = ()> + Send + use<> {
        let (options, sql) = (self.superuser_options(database), sql.to_owned());
        async move {
            let mut connection = PgConnection::connect_with(&options).await.unwrap();
            if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut connection).await {
                panic!("{sql}: {error}");
            }
            connection.close().await.unwrap();
        }
    }

    /// The one text that a query as the superuser gives, in one database.
    pub async fn text(&self, database: &str, sql: &str) -> String {
        let mut connection = PgConnection::connect_with(&self.superuser_options(database)).await.unwrap();
        let text = sqlx::query_scalar(AssertSqlSafe(format!("select ({sql})::text"))).fetch_one(&mut connection).await;
        connection.close().await.unwrap();
        text.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Waits until a query as the superuser gives a text.
    pub async fn until_text(&self, database: &str, sql: &str, wanted: &str) {
        until_async(sql, async || {
            let seen = self.text(database, sql).await;
            if seen == wanted { Ok(()) } else { Err(seen) }
        })
        .await;
    }

    /// The output of `pg_dump` for a database.
    #[track_caller]
    pub fn dump(&self, database: &str) -> String {
        let mut command = self.binaries.command("pg_dump");
        let output = command.arg(self.superuser_url(database)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same without the random word in `\\restrict`, for comparison with another dump.
    #[track_caller]
    pub fn comparable_dump(&self, database: &str) -> String {
        let random = |line: &&str| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
        self.dump(database).lines().filter(|line| !random(line)).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}\n{}", self.binaries.dir.display(), crate::logs::end_of("the cluster", &self.log()));
        }
        if self.keeper.lock().is_ok_and(|keeper| keeper.is_some()) {
            // A process stopped with SIGSTOP handles only this signal and SIGKILL.
            for pid in self.pids().into_iter().filter(|&pid| pid > 0) {
                signal(pid, Signal::SIGCONT);
            }
            self.crash();
        }
        keep_log("postgres", &self.log_file());
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
