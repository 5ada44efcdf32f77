//! Builds a template from a source: SQL files with psql, or a command.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::capture::Capture;
use super::dump::{self, Format};
use super::dump_roles::DumpRoles;
use super::environment;
use super::frames;
use super::inputs::sql_files;
use super::process::{self, Finished, Outcome};
use super::psql_report;
use super::script;
use super::source::{Source, SourceKind};
use super::target::BuildTarget;

/// The steps of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildPlan {
    /// Run these files with psql, in this order.
    SqlFiles(Vec<PathBuf>),
    /// Run this program with these arguments.
    Command(Vec<String>),
    /// Copy this database with pg_dump.
    CopyOf(String),
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
            Self::CopyOf(name) => format!("a copy of database \"{name}\""),
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
    /// The output of the programs, with secrets masked; of a long one the beginning and the end.
    pub log: String,
    /// What the template lacks, one sentence each.
    pub warnings: Vec<String>,
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
    /// The output of the programs, with secrets masked; of a long one the beginning and the end.
    pub log: String,
}

impl BuildFailure {
    pub(super) fn new(step: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { step: step.into(), detail: detail.into(), timed_out: false, cancelled: false, log: String::new() }
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
        SourceKind::Database(name) => Ok(BuildPlan::CopyOf(name.clone())),
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
    let runner = Runner::new(source, target, deadline, &cancel);
    let done = runner.carry_out(&plan).await;
    let log = runner.log.into_inner().unwrap_or_else(PoisonError::into_inner).text(&[]);
    match done {
        Ok(warnings) => Ok(BuildReport { plan, took: started.elapsed(), log, warnings }),
        Err(failure) => Err(BuildFailure { log, ..failure }),
    }
}

/// Carries out the steps of one build.
pub(super) struct Runner<'a> {
    source: &'a Source,
    pub(super) target: &'a BuildTarget,
    until: Instant,
    deadline: Duration,
    cancel: &'a CancellationToken,
    pub(super) secrets: Vec<String>,
    log: Mutex<Capture>,
}

impl<'a> Runner<'a> {
    /// The deadline begins now.
    pub(super) fn new(
        source: &'a Source,
        target: &'a BuildTarget,
        deadline: Duration,
        cancel: &'a CancellationToken,
    ) -> Self {
        let secrets = environment::secrets(source, target);
        Self { source, target, until: Instant::now() + deadline, deadline, cancel, secrets, log: Mutex::default() }
    }
}

impl Runner<'_> {
    /// Returns what the template lacks.
    async fn carry_out(&self, plan: &BuildPlan) -> Result<Vec<String>, BuildFailure> {
        match plan {
            BuildPlan::SqlFiles(files) => {
                for (place, file) in files.iter().enumerate() {
                    self.sql_file(file, place + 1, files.len()).await?;
                }
            }
            BuildPlan::Command(argv) => self.command(argv).await?,
            BuildPlan::CopyOf(name) => return self.copy(name).await,
        }
        Ok(Vec::new())
    }

    /// Runs a file with psql, not in a single transaction: it may have transactions of its own, and statements that no transaction may
    /// contain (`CREATE INDEX CONCURRENTLY`, the use of a new enum value). The database of a failed build is dropped anyway.
    async fn sql_file(&self, file: &Path, place: usize, count: usize) -> Result<(), BuildFailure> {
        let shown = self.source.shown(file);
        let step = match &self.source.kind {
            SourceKind::SqlDir(_) => {
                format!("{shown} (file {place} of {count}, in the order of their names, versions by value)")
            }
            _ => shown,
        };
        self.run_file(step, file).await
    }

    /// Runs an SQL file or a dump up to its first error.
    pub(super) async fn run_file(&self, step: String, file: &Path) -> Result<(), BuildFailure> {
        let prepared = self.prepare(&step, file).await?;
        let read = prepared.copy.as_ref().map_or(file, |copy| copy.path());
        let finished = self.psql(&step, read, &["-v", "ON_ERROR_STOP=1"]).await?;
        let status = self.status(&step, &finished)?;
        if status.success() {
            return Ok(());
        }
        // The error names the user's file, not the copy.
        let named = match prepared.is_archive {
            true => format!("psql:{} (as pg_restore prints it):", file.display()),
            false => format!("psql:{}:", file.display()),
        };
        let detail = match finished.output.first_error(&self.secrets) {
            None if is_refused_in_transaction(&finished.output) => self.open_transaction(file),
            Some(error) => psql_report::sentence(&error.replace(&format!("psql:{}:", read.display()), &named)),
            None => format!("psql {}{}", describe(status), self.last_output(&finished.output)),
        };
        Err(BuildFailure::new(step, detail))
    }

    /// Runs psql on a file, with further arguments.
    pub(super) async fn psql(&self, step: &str, read: &Path, arguments: &[&str]) -> Result<Finished, BuildFailure> {
        let psql = &self.target.psql;
        let mut command = Command::new(psql);
        // SQLSTATE beside each message, and the statement after an error.
        command.args(["-X", "-q", "-w", "-v", "VERBOSITY=verbose", "-v", "ECHO=errors"]).args(arguments);
        command.args(["-c", "\\o /dev/null", "-c", OWN_SETTINGS, "-c", "\\o"]);
        command.arg("-f").arg(read).args(["-c", NO_TRANSACTION]).env_remove("LC_ALL").env("LC_MESSAGES", "C");
        self.run(step, command, Capture::of_psql()).await?.map_err(|error| {
            let psql = psql.display();
            match error.kind() {
                io::ErrorKind::NotFound => BuildFailure::new(
                    step,
                    format!(
                        "SQL sources need psql, and there is no {psql}; install it (Debian, Ubuntu: apt-get install \
                         postgresql-client; Fedora: dnf install postgresql; Alpine: apk add postgresql-client; macOS: brew install \
                         libpq) or set pg_bin_dir (PGDIBS_PG_BIN_DIR) to the directory that has it"
                    ),
                ),
                _ => BuildFailure::new(step, format!("cannot start {psql}: {error}")),
            }
        })
    }

    /// What psql reads in place of a dump.
    pub(super) async fn prepare(&self, step: &str, file: &Path) -> Result<Prepared, BuildFailure> {
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
                    let copy = blocking(move || dump::without_owners(&current, &DumpRoles::default())).await;
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

    async fn command(&self, argv: &[String]) -> Result<(), BuildFailure> {
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
            return Ok(());
        }
        let output = &finished.output;
        let own = frames::own_error(&output.text(&self.secrets), &self.source.directory, &self.source.base);
        let own = own.map(|error| error + "; ").unwrap_or_default();
        Err(BuildFailure::new(&step, format!("{own}the command {}{}", describe(status), self.last_output(output))))
    }

    /// Runs a program with the variables of the target.
    async fn run(
        &self,
        step: &str,
        mut command: Command,
        capture: Capture,
    ) -> Result<io::Result<Finished>, BuildFailure> {
        environment::set(&mut command, self.source, self.target);
        self.run_as_is(step, command, capture).await
    }

    pub(super) async fn run_as_is(
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
        let finished = process::run(command, capture, self.until, self.cancel).await;
        if let Ok(finished) = &finished {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let output = finished.output.text(&self.secrets);
            let line_end = if output.is_empty() || output.ends_with('\n') { "" } else { "\n" };
            log.push(format!("== {step}\n{output}{line_end}").as_bytes());
        }
        Ok(finished)
    }

    pub(super) fn status(&self, step: &str, finished: &Finished) -> Result<ExitStatus, BuildFailure> {
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

    pub(super) fn last_output(&self, output: &Capture) -> String {
        match output.bytes() {
            0 => "; it printed nothing".to_owned(),
            _ => format!("; its last lines:\n{}", output.last_lines(&self.secrets)),
        }
    }
}

/// What psql reads in place of a file.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// `None` for the file itself.
    pub(super) copy: Option<NamedTempFile>,
    /// pg_restore printed it.
    is_archive: bool,
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::from).flatten()
}

/// psql runs it before a file. The build's login acts as the owner, and Postgres applies the settings of the login alone, so without this the next
/// file would not have what a file before set with `alter role current_user set`. Not those that only a superuser may set.
const OWN_SETTINGS: &str = "
select pg_catalog.set_config(pg_catalog.split_part(s, '=', 1), pg_catalog.substr(s, pg_catalog.strpos(s, '=') + 1), false)
from (select s from pg_catalog.pg_db_role_setting, pg_catalog.unnest(setconfig) with ordinality u (s, n)
      where setrole = current_user::regrole
        and setdatabase in (0, (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()))
        and pg_catalog.split_part(s, '=', 1) not in ('role', 'session_authorization', 'local_preload_libraries')
        and not exists (select from pg_catalog.pg_settings where name = pg_catalog.split_part(s, '=', 1) and context <> 'user')
      order by setdatabase <> 0, n) own";

/// psql runs it after a file, in the same session. Postgres refuses it within a transaction, and psql begins none for it, not even
/// without AUTOCOMMIT.
const NO_TRANSACTION: &str = "discard all";

/// Whether the server refused [`NO_TRANSACTION`], by the SQLSTATE in the last lines.
fn is_refused_in_transaction(output: &Capture) -> bool {
    output.last_lines(&[]).lines().any(|line| [":  25001: ", ":  25P02: "].iter().any(|code| line.contains(code)))
}

pub(super) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was terminated by signal {signal}"),
        (None, None) => "failed".to_owned(),
    }
}
