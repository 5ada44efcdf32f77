//! Starts the embedded server: adopts one that runs, or creates and starts one, and waits until it accepts connections.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use pgdibs_core::probe::{Probe, ProbeError};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::process::Child;
use tokio::time::{Instant, timeout};

use super::boot;
use super::cluster;
use super::control::Control;
use super::error::{EmbeddedError, IoContext};
use super::find::{self, Binaries, SearchRoots};
use super::layout::Layout;
use super::lock::{self, Attempt, FileLock};
use super::options::EmbeddedOptions;
use super::os_user::{self, OsUser};
use super::place::Environment;
use super::postmaster::{self, PidFile};
use super::progress::Progress;
use super::server::{Embedded, url};
use super::supervisor::{ATTACH_TIMEOUT, FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN, SupervisorArgs};

/// A supervisor that does not answer is stopping its server, for which Postgres has this much time.
const STOP_TIMEOUT: Duration = FAST_SHUTDOWN.saturating_add(IMMEDIATE_SHUTDOWN).saturating_add(Duration::from_secs(5));
/// Crash recovery of as much WAL as the settings allow takes tens of seconds on a slow disk.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// Another process can take a port between the check and Postgres's start; after three attempts the cause is another one.
const PORT_ATTEMPTS: usize = 3;
/// Lines of the server's log in an error.
const LOG_LINES: usize = 12;

/// Adopts the server of the data directory if one runs, otherwise creates and starts it; returns when it accepts connections.
/// `progress` is called at each stage. Dropping the future stops the processes that it has started.
///
/// # Errors
/// Every variant of [`EmbeddedError`]; no existing data is removed, except as [`Progress::Recreated`] reports.
pub async fn start(
    options: &EmbeddedOptions,
    probe: &impl Probe,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Embedded, EmbeddedError> {
    let os_user = os_user::for_server()?;
    let (data_dir, why) = choose(options.data_dir.as_deref())?;
    if let Some(why) = why {
        progress(Progress::Chosen { why });
    }
    let layout = Layout::claim(&data_dir, os_user.as_ref())?;
    let daemon_lock = match lock::acquire(&layout.daemon_lock()).await.context("lock", &layout.daemon_lock())? {
        Attempt::Acquired(lock) => lock,
        Attempt::Held(pid) => return Err(EmbeddedError::InUse { data_dir, pid }),
    };
    progress(Progress::Finding);
    let server = match attach(&layout, options.linger).await? {
        Some(control) => adopt(layout, control, daemon_lock, probe, &mut progress).await?,
        None => Starting { options, layout, os_user }.start(daemon_lock, probe, &mut progress).await?,
    };
    progress(Progress::Ready { port: server.port });
    Ok(server)
}

/// The data directory of a daemon with this setting: the configured one, or the one that pgdibs chooses.
///
/// # Errors
/// [`EmbeddedError::NoPlace`], or the working directory does not exist.
pub fn data_dir(configured: Option<&Path>) -> Result<PathBuf, EmbeddedError> {
    choose(configured).map(|(dir, _)| dir)
}

/// The data directory, and the reason when pgdibs chose it.
fn choose(configured: Option<&Path>) -> Result<(PathBuf, Option<String>), EmbeddedError> {
    match configured {
        Some(dir) => Ok((std::path::absolute(dir).context("find", dir)?, None)),
        None => Environment::of_this_process().choose().map(|(dir, why)| (dir, Some(why))),
    }
}

/// Attaches to the supervisor if there is one, and waits for the exit of one that is stopping its server.
async fn attach(layout: &Layout, linger: Duration) -> Result<Option<Control>, EmbeddedError> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    let lock = layout.supervisor_lock();
    loop {
        if let Some(control) = Control::attach(layout, linger).await {
            return Ok(Some(control));
        }
        let Some(pid) = lock::holder(&lock).context("inspect", &lock)? else {
            return Ok(None);
        };
        if Instant::now() >= deadline {
            let status = format!("its supervisor, process {}, does not answer", pid.unwrap_or(0));
            return Err(EmbeddedError::StillRunning { data_dir: layout.data_dir().to_owned(), status });
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn adopt(
    layout: Layout,
    control: Control,
    daemon_lock: FileLock,
    probe: &impl Probe,
    progress: &mut (impl FnMut(Progress) + Send),
) -> Result<Embedded, EmbeddedError> {
    let password = cluster::password(&layout)?;
    let written = cluster::written_port(&layout);
    let port = PidFile::read(&layout).and_then(|file| file.port).or(written).unwrap_or_default();
    wait_until_ready(&layout, &control, probe, port, &password).await?;
    progress(Progress::Adopted);
    let major = layout.cluster_major().unwrap_or_default();
    Ok(Embedded { layout, control, port, password, major, adopted: true, supervisor: None, daemon_lock })
}

/// A start, when no server runs.
struct Starting<'a> {
    options: &'a EmbeddedOptions,
    layout: Layout,
    os_user: Option<OsUser>,
}

impl Starting<'_> {
    async fn start(
        self,
        daemon_lock: FileLock,
        probe: &impl Probe,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<Embedded, EmbeddedError> {
        let layout = &self.layout;
        if let Some(pid) = postmaster::stop_orphans(layout).await? {
            progress(Progress::OrphanStopped { pid });
        }
        postmaster::remove_stale_files(layout);
        if let Some(why) = why_unusable(layout) {
            progress(Progress::Recreated { why });
            cluster::discard(layout)?;
        }
        if cluster::remove_leftovers(layout).await? > 0 {
            let why = format!("An initdb in {} was interrupted and runs again.", layout.data_dir().display());
            progress(Progress::Recreated { why });
        }
        let binaries = self.find_binaries().await?;
        let password = cluster::password(layout)?;
        if layout.cluster_major().is_none() {
            let data_dir = layout.data_dir().to_owned();
            progress(Progress::InitDb { data_dir, major: binaries.major });
            cluster::create(layout, &binaries, self.os_user.as_ref(), &password).await?;
        }
        // Read before the supervisor writes that the server runs.
        let leases_possible = Layout::was_left_running(layout.data_dir());
        let listen = self.options.listen;
        let mut attempts = 0;
        let (port, control, supervisor) = loop {
            attempts += 1;
            let (port, old) = cluster::choose_port(layout, listen.map(|address| address.port()), leases_possible)?;
            if let Some(from) = old {
                progress(Progress::PortChanged { from, to: port });
            }
            let address = listen.map(|address| address.ip());
            cluster::configure(layout, self.os_user.as_ref(), address, port, self.options.max_connections)?;
            progress(Progress::Starting { port });
            match self.start_on(&binaries, probe, port, &password).await {
                Err(EmbeddedError::NotStarted { .. })
                    if listen.is_none() && attempts < PORT_ATTEMPTS && !cluster::is_free(port) => {}
                started => {
                    break started.map(|(control, supervisor)| (port, control, supervisor))?;
                }
            }
        };
        let major = binaries.major;
        let supervisor = Some(supervisor);
        Ok(Embedded { layout: self.layout, control, port, password, major, adopted: false, supervisor, daemon_lock })
    }

    async fn find_binaries(&self) -> Result<Binaries, EmbeddedError> {
        let explicit = self.options.bin_dir.clone();
        let data_dir = self.layout.data_dir().to_owned();
        let made_by = self.layout.cluster_major();
        let search = tokio::task::spawn_blocking(move || {
            let wanted = made_by.map(|major| (major, data_dir.as_path()));
            find::find(explicit.as_deref(), &SearchRoots::of_this_system(), wanted)
        });
        let binaries =
            search.await.unwrap_or_else(|error| Err(std::io::Error::other(error)).context("search", Path::new("/")))?;
        let remedy = "move the binaries to a directory that every user may read, or start pgdibs as an ordinary user";
        os_user::check_reachable(&binaries.dir, self.os_user.as_ref(), remedy)?;
        Ok(binaries)
    }

    async fn start_on(
        &self,
        binaries: &Binaries,
        probe: &impl Probe,
        port: u16,
        password: &SecretString,
    ) -> Result<(Control, Child), EmbeddedError> {
        let layout = &self.layout;
        let log_file = layout.log_file();
        // The log of the previous run stays readable; there may be none.
        let _ = std::fs::rename(&log_file, log_file.with_extension("log.1"));
        let log = File::options().create(true).append(true).mode(0o600).open(&log_file).context("open", &log_file)?;
        let exe = &self.options.supervisor_exe;
        let args = SupervisorArgs {
            data_dir: layout.data_dir().to_owned(),
            bin_dir: binaries.dir.clone(),
            linger: self.options.linger,
        };
        let mut command = tokio::process::Command::new(std::path::absolute(exe).context("find", exe)?);
        // Its own process group, so that Ctrl-C in the daemon's terminal does not reach it. None of the daemon's streams, so that a
        // reader of the daemon's output sees its end.
        command.args(args.command_line()).current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut supervisor = Starter(Some(command.spawn().context("run", exe)?));

        let deadline = Instant::now() + ATTACH_TIMEOUT;
        let control = loop {
            if let Some(control) = Control::attach(layout, self.options.linger).await {
                break control;
            }
            if let Some(status) = supervisor.exit_status() {
                return Err(not_started(layout, format!("its supervisor exited ({status})")));
            }
            if Instant::now() >= deadline {
                return Err(not_started(layout, "its supervisor does not answer".to_owned()));
            }
            tokio::time::sleep(POLL).await;
        };
        wait_until_ready(layout, &control, probe, port, password).await?;
        match supervisor.0.take() {
            Some(supervisor) => Ok((control, supervisor)),
            None => Err(not_started(layout, "its supervisor exited".to_owned())),
        }
    }
}

/// Why the existing cluster must not be started, as a sentence; `None` when it may be, or there is none.
fn why_unusable(layout: &Layout) -> Option<String> {
    let pgdata = layout.pgdata();
    if !pgdata.exists() {
        // The file belongs to a cluster that was removed.
        let _ = std::fs::remove_file(layout.running_file());
        return None;
    }
    let here = layout.data_dir().display();
    if layout.cluster_major().is_none() {
        return Some(format!("The server in {here} has no readable PG_VERSION and is created again, empty."));
    }
    let started_under = std::fs::read_to_string(layout.running_file()).ok()?;
    if boot::current().as_deref() == Some(started_under.trim()) {
        // The machine's page cache has everything that Postgres wrote, whichever process was killed: crash recovery is enough.
        return None;
    }
    Some(format!(
        "The server in {here} was running when the machine was restarted, and it runs without fsync, so its files \
         may be corrupt: it is created again, empty."
    ))
}

/// A supervisor whose server is not ready yet. Dropping it stops both.
struct Starter(Option<Child>);

impl Starter {
    fn exit_status(&mut self) -> Option<std::process::ExitStatus> {
        self.0.as_mut()?.try_wait().ok()?
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        // `id` is `None` once the child is reaped, so the number cannot belong to another process.
        if let Some(pid) = self.0.as_ref().and_then(Child::id).and_then(|pid| i32::try_from(pid).ok()) {
            postmaster::send(pid, Signal::SIGTERM);
        }
    }
}

/// Waits for `ready` in the pid file, as `pg_ctl` does, and then for a connection. The probe revokes PUBLIC's CONNECT on the databases
/// `postgres` and `template1`, whether the cluster is new, old or adopted.
async fn wait_until_ready(
    layout: &Layout,
    control: &Control,
    probe: &impl Probe,
    port: u16,
    password: &SecretString,
) -> Result<(), EmbeddedError> {
    let deadline = Instant::now() + READY_TIMEOUT;
    let mut status;
    loop {
        let file_status = PidFile::read(layout).map(|file| file.status).unwrap_or_default();
        if file_status == "ready" {
            let first = timeout(CONNECT_TIMEOUT, probe.first_connection(&url(port, password.expose_secret()))).await;
            match first.unwrap_or_else(|_| Err(ProbeError::NotYet("it timed out".to_owned()))) {
                Ok(()) => return Ok(()),
                Err(ProbeError::Password) => {
                    let file = layout.password_file();
                    let data_dir = layout.data_dir().to_owned();
                    return Err(EmbeddedError::Password { file, what: "refused by the server", data_dir });
                }
                Err(ProbeError::NotYet(why)) => {
                    status = format!("its pid file says `ready`, but a connection fails: {why}")
                }
            }
        } else {
            status = format!("its pid file says `{file_status}`");
        }
        if control.is_closed() {
            return Err(not_started(layout, "it exited".to_owned()));
        }
        if Instant::now() >= deadline {
            return Err(not_started(layout, format!("after {} s {status}", READY_TIMEOUT.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn not_started(layout: &Layout, status: String) -> EmbeddedError {
    EmbeddedError::NotStarted {
        data_dir: layout.data_dir().to_owned(),
        status,
        log_file: layout.log_file(),
        log: layout.log_tail(LOG_LINES),
    }
}
