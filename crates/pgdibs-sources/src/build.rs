//! Builds a template from a source: SQL files with psql, or a command.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use tempfile::NamedTempFile;
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::capture::Capture;
use super::dump::{self, Format};
use super::inputs::sql_files;
use super::process::{self, Finished, Outcome};
use super::psql_report;
use super::script;
use super::source::{Source, SourceKind};

/// The empty database that becomes the template, and the login that builds it.
#[derive(Debug, Clone)]
pub struct BuildTarget {
    /// `postgresql://user:password@host:port/database`, its parameters (such as `sslmode`) included.
    pub url: SecretString,
    /// A host name, an address, or the directory of a socket.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The build's login.
    pub user: String,
    /// Its password, which is masked in output and errors.
    pub password: SecretString,
    /// The database's name.
    pub database: String,
    /// The path of psql, for SQL sources.
    pub psql: PathBuf,
}

/// The steps of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildPlan {
    /// Run these files with psql, in this order.
    SqlFiles(Vec<PathBuf>),
    /// Run this program with these arguments.
    Command(Vec<String>),
    /// Run nothing: the caller clones this database.
    CloneOf(String),
}

impl BuildPlan {
    /// The steps in words: the files in order, or the command.
    pub fn steps(&self, source: &Source) -> String {
        match self {
            Self::SqlFiles(files) => {
                let names: Vec<String> = files.iter().map(|file| source.shown(file)).collect();
                match names.len() {
                    1 => names.concat(),
                    count => format!("{count} files in this order: {}", names.join(", ")),
                }
            }
            Self::Command(argv) => format!("`{}`", argv.join(" ")),
            Self::CloneOf(name) => format!("a copy of database \"{name}\""),
        }
    }
}

/// A build that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildReport {
    /// The steps.
    pub plan: BuildPlan,
    /// The duration.
    pub took: Duration,
    /// The size of the output of the programs.
    pub output_bytes: u64,
}

/// A build that failed. The database stays as it is; the next attempt needs an empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFailure {
    /// The step: `inputs`, a file's name, or the command.
    pub step: String,
    /// A sentence, then the last lines of the output, with secrets masked.
    pub detail: String,
    /// The deadline passed.
    pub timed_out: bool,
    /// It was cancelled.
    pub cancelled: bool,
}

impl BuildFailure {
    fn new(step: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { step: step.into(), detail: detail.into(), timed_out: false, cancelled: false }
    }
}

/// The steps of a build of `source` with its present inputs. It blocks on reading the SQL files.
///
/// # Errors
/// There are no SQL files, psql must not run them, or their order is unknown.
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

/// Builds `source` in `target` by the steps of `plan`; `deadline` is for all its steps together. Dropping the future kills the running program; `cancel`
/// terminates it, and kills it after two seconds.
///
/// # Errors
/// The first step that failed, with the last lines of its output.
pub async fn build(
    source: &Source,
    plan: BuildPlan,
    target: &BuildTarget,
    deadline: Duration,
    cancel: CancellationToken,
) -> Result<BuildReport, BuildFailure> {
    let started = Instant::now();
    let runner = Runner { source, target, until: started + deadline, deadline, cancel: &cancel };
    let mut output_bytes = 0;
    match &plan {
        BuildPlan::SqlFiles(files) => {
            for (place, file) in files.iter().enumerate() {
                output_bytes += runner.sql_file(file, place + 1, files.len()).await?;
            }
        }
        BuildPlan::Command(argv) => output_bytes = runner.command(argv).await?,
        BuildPlan::CloneOf(_) => {}
    }
    Ok(BuildReport { plan, took: started.elapsed(), output_bytes })
}

struct Runner<'a> {
    source: &'a Source,
    target: &'a BuildTarget,
    until: Instant,
    deadline: Duration,
    cancel: &'a CancellationToken,
}

impl Runner<'_> {
    /// Runs a file with psql, not in a single transaction: it may have transactions of its own, and statements that no transaction may
    /// contain (`CREATE INDEX CONCURRENTLY`, the use of a new enum value). The database of a failed build is dropped anyway.
    async fn sql_file(&self, file: &Path, place: usize, count: usize) -> Result<u64, BuildFailure> {
        let shown = self.source.shown(file);
        let step = match &self.source.kind {
            SourceKind::SqlDir(_) => {
                format!("{shown} (file {place} of {count}, in the order of their names, versions by value)")
            }
            _ => shown,
        };
        let prepared = self.prepare(&step, file).await?;
        let read = prepared.copy.as_ref().map_or(file, |copy| copy.path());
        let mut command = Command::new(&self.target.psql);
        // SQLSTATE beside each message, and the statement after an error.
        command.args(["-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-v", "ECHO=errors", "-f"]);
        command.arg(read).args(["-c", NO_TRANSACTION]).env_remove("LC_ALL").env("LC_MESSAGES", "C");
        let finished = self.run(&step, command, Capture::of_psql()).await?.map_err(|error| {
            let psql = self.target.psql.display();
            match error.kind() {
                io::ErrorKind::NotFound => BuildFailure::new(
                    &step,
                    format!(
                        "SQL sources need psql, and there is no {psql}; install it (Debian, Ubuntu: apt-get install \
                         postgresql-client; Fedora: dnf install postgresql; Alpine: apk add postgresql-client; macOS: brew install \
                         libpq) or set pg_bin_dir (PGDIBS_PG_BIN_DIR) to the directory that has it"
                    ),
                ),
                _ => BuildFailure::new(&step, format!("cannot start {psql}: {error}")),
            }
        })?;
        let status = self.status(&step, &finished)?;
        if status.success() {
            return Ok(finished.output.bytes());
        }
        // The error names the user's file, not the copy.
        let named = match prepared.is_archive {
            true => format!("psql:{} (as pg_restore prints it):", file.display()),
            false => format!("psql:{}:", file.display()),
        };
        let detail = match finished.output.first_error(&self.secrets()) {
            None if is_refused_in_transaction(&finished.output) => self.open_transaction(file),
            Some(error) => psql_report::sentence(&error.replace(&format!("psql:{}:", read.display()), &named)),
            None => format!("psql {}{}", describe(status), self.last_output(&finished.output)),
        };
        Err(BuildFailure::new(step, detail))
    }

    /// What psql reads in place of a dump.
    async fn prepare(&self, step: &str, file: &Path) -> Result<Prepared, BuildFailure> {
        let mut prepared = Prepared::default();
        loop {
            let current = prepared.copy.as_ref().map_or(file, |copy| copy.path()).to_owned();
            let (read, named) = (current.clone(), file.to_owned());
            let format = match blocking(move || dump::format_of(&read, &named)).await {
                Ok(format) => format,
                // psql reports such a file itself.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                    return Ok(prepared);
                }
                Err(error) => return Err(BuildFailure::new(step, format!("cannot read the file: {error}"))),
            };
            let failed = |what: &str, error: io::Error| BuildFailure::new(step, format!("cannot {what}: {error}"));
            match format {
                Format::Sql => return Ok(prepared),
                Format::PlainDump => {
                    let copy = blocking(move || dump::without_owners(&current)).await;
                    prepared.copy =
                        Some(copy.map_err(|error| failed("create a copy of the dump without its owners", error))?);
                    return Ok(prepared);
                }
                Format::Gzip => {
                    let copy = blocking(move || dump::decompressed(&current)).await;
                    prepared.copy = Some(copy.map_err(|error| failed("decompress the file", error))?);
                }
                Format::Archive => {
                    prepared.copy = Some(self.restored(step, &current).await?);
                    prepared.is_archive = true;
                }
                Format::Unfit(reason) => return Err(BuildFailure::new(step, format!("{} {reason}", file.display()))),
            }
        }
    }

    /// The plain form of a dump in another format.
    async fn restored(&self, step: &str, archive: &Path) -> Result<NamedTempFile, BuildFailure> {
        let copy = dump::new_copy().map_err(|error| {
            BuildFailure::new(step, format!("cannot create a file for the output of pg_restore: {error}"))
        })?;
        // A dump in the directory format is named by its table of contents.
        let directory = archive.parent().filter(|_| dump::is_table_of_contents(archive));
        let program = self.target.psql.with_file_name("pg_restore");
        let mut command = Command::new(&program);
        command
            .arg("--no-owner")
            .arg("--file")
            .arg(copy.path())
            .arg(directory.unwrap_or(archive))
            .env_remove("LC_ALL")
            .env("LC_MESSAGES", "C");
        let finished = self.run(step, command, Capture::default()).await?.map_err(|error| {
            let program = program.display();
            let detail = format!("the file is a dump for pg_restore, and {program} cannot be started: {error}; install it beside psql, or set \
                                  pg_bin_dir (PGDIBS_PG_BIN_DIR) to the directory that has both");
            BuildFailure::new(step, detail)
        })?;
        let status = self.status(step, &finished)?;
        if status.success() {
            return Ok(copy);
        }
        let output = self.last_output(&finished.output);
        let newer = match output.contains("unsupported version") {
            true => "; a newer pg_dump made the file: set pg_bin_dir to programs of its version",
            false => "",
        };
        Err(BuildFailure::new(step, format!("pg_restore {}{newer}{output}", describe(status))))
    }

    /// The error of a file at whose end a transaction is open.
    fn open_transaction(&self, file: &Path) -> String {
        const REASON: &str = "open at the end of the file, so Postgres rolls it back; add `commit;`";
        match script::open_transaction(file, &self.source.directory) {
            Some((file, line)) => {
                format!("{}, line {line}: the transaction that begins here is still {REASON}", file.display())
            }
            None => format!("{}: a transaction is {REASON}", file.display()),
        }
    }

    async fn command(&self, argv: &[String]) -> Result<u64, BuildFailure> {
        let step = argv.join(" ");
        let Some((program, arguments)) = argv.split_first() else {
            return Err(BuildFailure::new("command", "the command is empty"));
        };
        // A relative path of a program starts at the build's directory; without this, it would depend on the operating system.
        let program = match program.contains('/') {
            true => self.source.directory.join(program),
            false => PathBuf::from(program),
        };
        let mut command = Command::new(&program);
        command.args(arguments);
        let finished = self.run(&step, command, Capture::default()).await?.map_err(|error| {
            let program = program.display();
            let detail = match error.kind() {
                io::ErrorKind::NotFound => format!(
                    "there is no program `{program}` on the daemon's PATH; install it where the daemon runs, or give its path \
                     (a relative one starts at {})",
                    self.source.directory.display()
                ),
                io::ErrorKind::PermissionDenied => {
                    format!("`{program}` is not executable; make it executable or run it with its interpreter")
                }
                _ => format!("cannot start `{program}`: {error}"),
            };
            BuildFailure::new(&step, detail)
        })?;
        let status = self.status(&step, &finished)?;
        if status.success() {
            return Ok(finished.output.bytes());
        }
        Err(BuildFailure::new(&step, format!("the command {}{}", describe(status), self.last_output(&finished.output))))
    }

    async fn run(
        &self,
        step: &str,
        mut command: Command,
        capture: Capture,
    ) -> Result<io::Result<Finished>, BuildFailure> {
        let directory = &self.source.directory;
        if !directory.is_dir() {
            let detail = format!("there is no working directory {}; correct `directory`", directory.display());
            return Err(BuildFailure::new(step, detail));
        }
        command.current_dir(directory);
        self.set_environment(&mut command);
        Ok(process::run(command, capture, self.until, self.cancel).await)
    }

    /// The program inherits the daemon's variables, except those for connections (`PG*`) and those with secrets (`PGDIBS_*`).
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

    fn status(&self, step: &str, finished: &Finished) -> Result<ExitStatus, BuildFailure> {
        let last_output = || self.last_output(&finished.output);
        match &finished.outcome {
            Outcome::Exited(status) => Ok(*status),
            Outcome::TimedOut => {
                let seconds = self.deadline.as_secs_f64();
                let detail = format!(
                    "the build took longer than {seconds} seconds and was terminated with all its processes; make it faster or raise the \
                     pool's source.timeout_seconds (or build_timeout_seconds){}",
                    last_output()
                );
                Err(BuildFailure { timed_out: true, ..BuildFailure::new(step, detail) })
            }
            Outcome::Cancelled => {
                let detail = format!("the build was cancelled and terminated with all its processes{}", last_output());
                Err(BuildFailure { cancelled: true, ..BuildFailure::new(step, detail) })
            }
        }
    }

    fn last_output(&self, output: &Capture) -> String {
        match output.bytes() {
            0 => "; it printed nothing".to_owned(),
            _ => format!("; its last lines:\n{}", output.last_lines(&self.secrets())),
        }
    }

    /// The password, plain and encoded as in the URL, and the secrets among the source's variables.
    fn secrets(&self) -> Vec<String> {
        let plain = self.target.password.expose_secret().to_owned();
        let url = self.target.url.expose_secret();
        let login = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(login, _)| login);
        let encoded = login.and_then(|login| login.split_once(':')).map(|(_, password)| password.to_owned());
        let own = self.source.env.iter().map(|(name, value)| (name, value.expose_secret()));
        let own = own.filter(|(name, value)| is_secret(name, value)).map(|(_, value)| value.to_owned());
        [Some(plain), encoded].into_iter().flatten().chain(own).collect()
    }
}

/// Whether a variable of a source is a secret: by its name, or because its value is a URL with a login. To mask every variable, such as
/// `DJANGO_SETTINGS_MODULE`, would hide why a build failed.
fn is_secret(name: &str, value: &str) -> bool {
    const WORDS: [&str; 9] = ["AUTH", "CREDENTIAL", "DSN", "KEY", "PASS", "PRIVATE", "SALT", "SECRET", "TOKEN"];
    let name = name.to_ascii_uppercase();
    let login = value.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    // A shorter value may occur in any output by chance.
    value.len() >= 4 && (login || WORDS.iter().any(|word| name.contains(word)))
}

/// What psql reads in place of a file.
#[derive(Debug, Default)]
struct Prepared {
    /// `None` for the file itself.
    copy: Option<NamedTempFile>,
    /// pg_restore printed it.
    is_archive: bool,
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::from).flatten()
}

/// psql runs it after a file, in the same session. Postgres refuses it within a transaction, and psql begins none for it, not even
/// without AUTOCOMMIT.
const NO_TRANSACTION: &str = "discard all";

/// Whether the server refused [`NO_TRANSACTION`], by the SQLSTATE in the last lines.
fn is_refused_in_transaction(output: &Capture) -> bool {
    output.last_lines(&[]).lines().any(|line| [":  25001: ", ":  25P02: "].iter().any(|code| line.contains(code)))
}

/// URL parameters and the variables from which libpq takes them, for programs that read `PG*` alone, as psql does here.
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

fn parameter_of(url: &str, parameter: &str) -> Option<String> {
    let (_, parameters) = url.split_once('?')?;
    let pairs = parameters.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(name, _)| *name == parameter)?;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was terminated by signal {signal}"),
        (None, None) => "failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn secrets_are_recognised_by_name_or_login_in_url() {
        for (name, value) in [
            ("KEY", "canary"),
            ("API_KEY", "abcd"),
            ("django_secret", "abcd"),
            ("DB_PASSWORD", "hunter2"),
            ("CACHE_URL", "redis://u:p@h/0"),
        ] {
            assert!(is_secret(name, value), "{name}");
        }
        for (name, value) in [
            ("DJANGO_SETTINGS_MODULE", "myapp.settings"),
            ("PYTHONPATH", "/app/src"),
            ("KEY", "1"),
            ("INDEX_URL", "https://pypi.example/simple"),
        ] {
            assert!(!is_secret(name, value), "{name}");
        }
    }
}
