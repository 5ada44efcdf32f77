//! Building a template from a source: SQL files through psql, or a command.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::capture::Capture;
use super::dump;
use super::inputs::sql_files;
use super::process::{self, Ended, Ending};
use super::psql_report;
use super::source::{Source, SourceKind};

/// The empty database that becomes the template, and the login that builds it.
#[derive(Debug, Clone)]
pub struct BuildTarget {
    /// `postgresql://user:password@host:port/database`, its parameters (such as `sslmode`) included.
    pub url: SecretString,
    /// A name, an address, or the directory of a socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The build's own login.
    pub user: String,
    /// Its password. It is taken out of everything that is shown.
    pub password: SecretString,
    /// The database's name.
    pub database: String,
    /// The program psql; needed for SQL sources alone.
    pub psql: PathBuf,
}

/// What a build of a source consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildPlan {
    /// These files through psql, in this order.
    SqlFiles(Vec<PathBuf>),
    /// This program with these arguments.
    Command(Vec<String>),
    /// Nothing to run: the caller clones this database.
    CloneOf(String),
}

/// A build that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildReport {
    /// What was done; for [`BuildPlan::CloneOf`] nothing was.
    pub plan: BuildPlan,
    /// How long it took.
    pub took: Duration,
    /// How much the programs printed.
    pub output_bytes: u64,
}

/// A build that failed. The database is as the build left it; the next attempt starts with an empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFailure {
    /// Which step: `inputs`, a file's name, or the command.
    pub step: String,
    /// A sentence, then the last lines of the output. Without the password.
    pub detail: String,
    /// Its time was up.
    pub timed_out: bool,
    /// It was cancelled, which says nothing about the source.
    pub cancelled: bool,
}

impl BuildFailure {
    fn new(step: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { step: step.into(), detail: detail.into(), timed_out: false, cancelled: false }
    }
}

/// What a build of `source` would consist of now.
///
/// # Errors
/// There are no SQL files.
pub fn plan(source: &Source) -> Result<BuildPlan, BuildFailure> {
    match &source.kind {
        SourceKind::SqlDir(_) | SourceKind::SqlFile(_) => {
            let files = sql_files(source).map_err(|error| BuildFailure::new("inputs", error.to_string()))?;
            Ok(BuildPlan::SqlFiles(files))
        }
        SourceKind::Command(argv) => Ok(BuildPlan::Command(argv.clone())),
        SourceKind::Database(name) => Ok(BuildPlan::CloneOf(name.clone())),
    }
}

/// Builds `source` in `target` within `deadline`, all its files together. Dropping the future ends what it runs at once;
/// `cancel` gives it two seconds to end by itself.
///
/// # Errors
/// The first step that failed, with what its program said last.
pub async fn build(
    source: &Source,
    target: &BuildTarget,
    deadline: Duration,
    cancel: CancellationToken,
) -> Result<BuildReport, BuildFailure> {
    let begun = Instant::now();
    let plan = plan(source)?;
    let running = Running { source, target, until: begun + deadline, deadline, cancel: &cancel };
    let mut output_bytes = 0;
    match &plan {
        BuildPlan::SqlFiles(files) => {
            for (place, file) in files.iter().enumerate() {
                output_bytes += running.sql_file(file, place + 1, files.len()).await?;
            }
        }
        BuildPlan::Command(argv) => output_bytes = running.command(argv).await?,
        BuildPlan::CloneOf(_) => {}
    }
    Ok(BuildReport { plan, took: begun.elapsed(), output_bytes })
}

struct Running<'a> {
    source: &'a Source,
    target: &'a BuildTarget,
    until: Instant,
    deadline: Duration,
    cancel: &'a CancellationToken,
}

impl Running<'_> {
    /// Not in a single transaction: a dump or migration may hold transactions of its own and statements that allow none
    /// (`CREATE INDEX CONCURRENTLY`, using a new enum value), and a failed build's database is dropped as a whole anyway.
    async fn sql_file(&self, file: &Path, place: usize, count: usize) -> Result<u64, BuildFailure> {
        let shown = file.strip_prefix(&self.source.base).unwrap_or(file).display().to_string();
        let step = match &self.source.kind {
            SourceKind::SqlDir(_) => {
                format!("{shown} (file {place} of {count}, in byte order of their names)")
            }
            _ => shown,
        };
        let path = file.to_owned();
        let copy = tokio::task::spawn_blocking(move || dump::without_owners(&path));
        let copy = match copy.await.map_err(io::Error::from).flatten() {
            Ok(copy) => copy,
            // psql says so of a file that it cannot read either.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => None,
            Err(error) => {
                let detail = format!("cannot make a copy of the dump without its owners: {error}");
                return Err(BuildFailure::new(step, detail));
            }
        };
        let read = copy.as_ref().map_or(file, |copy| copy.path());
        let mut command = Command::new(&self.target.psql);
        // SQLSTATE beside each message, and the statement after an error.
        command.args(["-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-v", "ECHO=errors", "-f"]);
        command.arg(read).env_remove("LC_ALL").env("LC_MESSAGES", "C");
        let ended = self.run(&step, command, Capture::of_psql()).await?.map_err(|error| {
            let psql = self.target.psql.display();
            match error.kind() {
                io::ErrorKind::NotFound => BuildFailure::new(
                    &step,
                    format!(
                        "SQL sources are read by psql, and there is no {psql}; install it (Debian, Ubuntu: apt-get install \
                         postgresql-client; Fedora: dnf install postgresql; Alpine: apk add postgresql-client; macOS: brew install \
                         libpq) or set pg_bin_dir (PGDIBS_PG_BIN_DIR) to the directory that has it"
                    ),
                ),
                _ => BuildFailure::new(&step, format!("cannot start {psql}: {error}")),
            }
        })?;
        let status = self.status(&step, &ended)?;
        if status.success() {
            return Ok(ended.output.bytes());
        }
        // The user knows nothing of the copy.
        let named = format!("psql:{}:", file.display());
        let detail = match ended.output.first_error(&self.secrets()) {
            Some(error) => psql_report::sentence(&error.replace(&format!("psql:{}:", read.display()), &named)),
            None => format!("psql {}{}", how(status), self.said(&ended.output)),
        };
        Err(BuildFailure::new(step, detail))
    }

    async fn command(&self, argv: &[String]) -> Result<u64, BuildFailure> {
        let step = argv.join(" ");
        let Some((program, arguments)) = argv.split_first() else {
            return Err(BuildFailure::new("command", "the command is empty"));
        };
        // A relative path to a program starts at the build's directory, which the operating system leaves open.
        let program = match program.contains('/') {
            true => self.source.directory.join(program),
            false => PathBuf::from(program),
        };
        let mut command = Command::new(&program);
        command.args(arguments);
        let ended = self.run(&step, command, Capture::default()).await?.map_err(|error| {
            let program = program.display();
            let detail = match error.kind() {
                io::ErrorKind::NotFound => format!(
                    "there is no program `{program}` on the daemon's PATH; install it where the daemon runs, or name it by its path \
                     (a relative one starts at {})",
                    self.source.directory.display()
                ),
                io::ErrorKind::PermissionDenied => {
                    format!("`{program}` may not be executed; make it executable or name its interpreter first")
                }
                _ => format!("cannot start `{program}`: {error}"),
            };
            BuildFailure::new(&step, detail)
        })?;
        let status = self.status(&step, &ended)?;
        if status.success() {
            return Ok(ended.output.bytes());
        }
        Err(BuildFailure::new(&step, format!("the command {}{}", how(status), self.said(&ended.output))))
    }

    async fn run(&self, step: &str, mut command: Command, capture: Capture) -> Result<io::Result<Ended>, BuildFailure> {
        let directory = &self.source.directory;
        if !directory.is_dir() {
            let detail = format!("there is no directory {} to run it in; correct `directory`", directory.display());
            return Err(BuildFailure::new(step, detail));
        }
        command.current_dir(directory);
        self.set_environment(&mut command);
        Ok(process::run(command, capture, self.until, self.cancel).await)
    }

    /// The daemon's own variables go along except those that would lead elsewhere (`PG*`) or hold its secrets (`PGDIBS_*`).
    fn set_environment(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        let target = self.target;
        for (parameter, variable) in PARAMETERS {
            if let Some(value) = parameter_of(target.url.expose_secret(), parameter) {
                command.env(variable, value);
            }
        }
        command.envs(self.source.env.iter().map(|(name, value)| (name, value.expose_secret())));
        command
            .env("DATABASE_URL", target.url.expose_secret())
            .env("PGHOST", &target.host)
            .env("PGPORT", target.port.to_string())
            .env("PGUSER", &target.user)
            .env("PGPASSWORD", target.password.expose_secret())
            .env("PGDATABASE", &target.database);
    }

    fn status(&self, step: &str, ended: &Ended) -> Result<ExitStatus, BuildFailure> {
        let said = || self.said(&ended.output);
        match &ended.ending {
            Ending::Exited(status) => Ok(*status),
            Ending::TimedOut => {
                let seconds = self.deadline.as_secs_f64();
                let detail = format!(
                    "the build did not end within {seconds} seconds and was ended, with everything it had started; make it faster \
                     or raise the pool's source.timeout_seconds (or build_timeout_seconds){}",
                    said()
                );
                Err(BuildFailure { timed_out: true, ..BuildFailure::new(step, detail) })
            }
            Ending::Cancelled => {
                let detail = format!("the build was cancelled, and everything it had started was ended{}", said());
                Err(BuildFailure { cancelled: true, ..BuildFailure::new(step, detail) })
            }
        }
    }

    fn said(&self, output: &Capture) -> String {
        match output.bytes() {
            0 => "; it printed nothing".to_owned(),
            _ => format!("; its last lines:\n{}", output.last_lines(&self.secrets())),
        }
    }

    /// The password as it is and as it stands in the URL, and what the source's own variables hide.
    fn secrets(&self) -> Vec<String> {
        let plain = self.target.password.expose_secret().to_owned();
        let url = self.target.url.expose_secret();
        let login = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(login, _)| login);
        let encoded = login.and_then(|login| login.split_once(':')).map(|(_, password)| password.to_owned());
        let own = self.source.env.iter().map(|(name, value)| (name, value.expose_secret()));
        let own = own.filter(|(name, value)| hides_something(name, value)).map(|(_, value)| value.to_owned());
        [Some(plain), encoded].into_iter().flatten().chain(own).collect()
    }
}

/// Whether a variable of a source is a secret, by its name, or because it is a URL with a login. Not every one is: to mask the value
/// of `DJANGO_SETTINGS_MODULE` would hide why a build failed.
fn hides_something(name: &str, value: &str) -> bool {
    const WORDS: [&str; 9] = ["AUTH", "CREDENTIAL", "DSN", "KEY", "PASS", "PRIVATE", "SALT", "SECRET", "TOKEN"];
    let name = name.to_ascii_uppercase();
    let login = value.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    // Fewer characters may stand anywhere by chance.
    value.len() >= 4 && (login || WORDS.iter().any(|word| name.contains(word)))
}

/// Parameters of a URL that libpq takes from variables, for what reads `PG*` alone, as psql does here.
const PARAMETERS: [(&str, &str); 8] = [
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
];

fn parameter_of(url: &str, wanted: &str) -> Option<String> {
    let (_, parameters) = url.split_once('?')?;
    let pairs = parameters.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(name, _)| *name == wanted)?;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::hides_something;

    #[test]
    fn variables_that_hide_something_are_told_by_name_or_by_a_login() {
        for (name, value) in [
            ("KEY", "canary"),
            ("API_KEY", "abcd"),
            ("django_secret", "abcd"),
            ("DB_PASSWORD", "hunter2"),
            ("CACHE_URL", "redis://u:p@h/0"),
        ] {
            assert!(hides_something(name, value), "{name}");
        }
        for (name, value) in [
            ("DJANGO_SETTINGS_MODULE", "myapp.settings"),
            ("PYTHONPATH", "/app/src"),
            ("KEY", "1"),
            ("INDEX_URL", "https://pypi.example/simple"),
        ] {
            assert!(!hides_something(name, value), "{name}");
        }
    }
}
