//! Creates the cluster in the data directory: password, port, `initdb`, settings. Also discards a cluster.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use secrecy::{ExposeSecret, SecretString};

use super::error::{EmbeddedError, IoContext};
use super::find::Binaries;
use super::layout::{Layout, write_atomically};
use super::os_user::{self, OsUser};
use super::settings;
use pgdibs_core::name::PASSWORD_PREFIX;

/// The name of the superuser.
pub(super) const SUPERUSER: &str = "postgres";

/// `initdb` takes about a second, on an overloaded machine more than a minute.
const INITDB_TIMEOUT: Duration = Duration::from_secs(120);

/// Below the ports that Linux (32768 and up) and macOS (49152 and up) give to outgoing connections, which could take the port while
/// the server is down.
const PORTS: std::ops::Range<u16> = 20_000..32_768;

const NEW: &str = "pgdata.new-";
const OLD: &str = "pgdata.old-";
const INITDB_PASSWORD: &str = "initdb-password-";

/// The superuser's password: reads it, or generates it when there is no cluster yet.
pub(super) fn password(layout: &Layout) -> Result<SecretString, EmbeddedError> {
    let file = layout.password_file();
    match std::fs::read_to_string(&file) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().into()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).context("read", &file);
        }
        _ => {}
    }
    if layout.cluster_major().is_some() {
        let data_dir = layout.data_dir().to_owned();
        return Err(EmbeddedError::Password { file, what: "missing", data_dir });
    }
    let random = rand::random::<[u8; 24]>();
    let password = random.iter().fold(PASSWORD_PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}"));
    write_atomically(&file, &format!("{password}\n"), 0o600)?;
    Ok(password.into())
}

/// The port in the data directory's port file.
pub(super) fn written_port(layout: &Layout) -> Option<u16> {
    std::fs::read_to_string(layout.port_file()).ok()?.trim().parse().ok()
}

/// Chooses the data directory's port: the configured one, otherwise that of the earlier starts. When another process listens on that,
/// it takes a new one, unless live leases may carry the old one. Returns the port, and the old one if it changed.
pub(super) fn choose_port(
    layout: &Layout,
    configured: Option<u16>,
    leases_possible: bool,
) -> Result<(u16, Option<u16>), EmbeddedError> {
    let written = written_port(layout);
    if let Some(port) = configured {
        write_atomically(&layout.port_file(), &format!("{port}\n"), 0o600)?;
        return Ok((port, written.filter(|written| *written != port)));
    }
    match written {
        Some(port) if is_free(port) => return Ok((port, None)),
        Some(port) if leases_possible => {
            return Err(EmbeddedError::PortTaken { port, data_dir: layout.data_dir().to_owned() });
        }
        _ => {}
    }
    let random = std::iter::repeat_with(|| rand::random_range(PORTS)).take(100).find(|port| is_free(*port));
    let port = match random {
        Some(port) => port,
        None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .context("find a free port for", layout.data_dir())?
            .port(),
    };
    write_atomically(&layout.port_file(), &format!("{port}\n"), 0o600)?;
    Ok((port, written))
}

/// Whether no process listens on this port of the loopback address.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Runs `initdb` in a scratch directory and renames that to `pgdata`, so that `pgdata` is always complete. Dropping the future kills
/// `initdb` and its children.
pub(super) async fn create(
    layout: &Layout,
    binaries: &Binaries,
    os_user: Option<&OsUser>,
    password: &SecretString,
) -> Result<(), EmbeddedError> {
    let failed = |detail: String| EmbeddedError::InitDb { dir: layout.data_dir().to_owned(), detail };
    let mut last = String::new();
    // `C.UTF-8` classifies letters beyond ASCII; not every system has it.
    for locale in ["C.UTF-8", "C"] {
        let scratch = Scratch::new(layout, os_user, password)?;
        let output = tokio::time::timeout(INITDB_TIMEOUT, initdb(&scratch, binaries, os_user, locale))
            .await
            .map_err(|_| failed(format!("it did not finish within {} s", INITDB_TIMEOUT.as_secs())))??;
        if output.status.success() {
            let conf = scratch.dir.join("postgresql.conf");
            let include = format!("\n# Added by pgdibs.\ninclude = '{}'\n", settings::FILE);
            let mut file = std::fs::File::options().append(true).open(&conf).context("open", &conf)?;
            file.write_all(include.as_bytes()).context("write", &conf)?;
            return std::fs::rename(&scratch.dir, layout.pgdata()).context("rename", &scratch.dir);
        }
        let output_text = [output.stdout, output.stderr].concat();
        let output_text = String::from_utf8_lossy(&output_text).into_owned();
        let lines: Vec<&str> = output_text.lines().filter(|line| !line.trim().is_empty()).collect();
        last = format!("{}; its last lines: {}", output.status, lines[lines.len().saturating_sub(6)..].join(" / "));
    }
    Err(failed(last))
}

async fn initdb(
    scratch: &Scratch,
    binaries: &Binaries,
    os_user: Option<&OsUser>,
    locale: &str,
) -> Result<Output, EmbeddedError> {
    let mut command = binaries.command("initdb");
    os_user::run_as(&mut command, os_user);
    command.arg("--pgdata").arg(&scratch.dir).arg("--pwfile").arg(&scratch.password_file).args([
        "--auth=scram-sha-256",
        "--username",
        SUPERUSER,
        "--encoding=UTF8",
        "--no-sync",
        "--locale",
        locale,
    ]);
    if binaries.major >= 17 {
        command.args(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
    }
    if binaries.major >= 18 {
        command.arg("--no-data-checksums");
    }
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().context("run", &binaries.dir.join("initdb"))?;
    // Declared after the child, so dropped before it: the unreaped child keeps the group's number from being reused.
    let mut group = ProcessGroup(child.id());
    let output = child.wait_with_output().await.context("wait for", &binaries.dir.join("initdb"));
    group.0 = None;
    output
}

/// Writes the settings and the access rules into the cluster.
pub(super) fn configure(
    layout: &Layout,
    os_user: Option<&OsUser>,
    listen: Option<IpAddr>,
    port: u16,
    max_connections: u32,
) -> Result<(), EmbeddedError> {
    for (name, text) in [
        (settings::FILE, settings::text(layout, listen, port, max_connections)),
        ("pg_hba.conf", settings::access_rules(listen)),
    ] {
        let path = layout.pgdata().join(name);
        write_atomically(&path, &text, 0o600)?;
        os_user::give_to(&path, os_user)?;
    }
    Ok(())
}

/// Renames the cluster; [`remove_leftovers`] deletes it.
pub(super) fn discard(layout: &Layout) -> Result<(), EmbeddedError> {
    let pgdata = layout.pgdata();
    std::fs::rename(&pgdata, beside(layout, OLD)).context("rename", &pgdata)?;
    match std::fs::remove_file(layout.running_file()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("remove", &layout.running_file()),
        _ => Ok(()),
    }
}

/// Deletes incomplete and discarded clusters. Returns how many incomplete ones there were.
pub(super) async fn remove_leftovers(layout: &Layout) -> Result<usize, EmbeddedError> {
    let data_dir = layout.data_dir().to_owned();
    let removal = tokio::task::spawn_blocking(move || -> Result<usize, EmbeddedError> {
        let mut incomplete = 0;
        for entry in std::fs::read_dir(&data_dir).context("read", &data_dir)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let path = entry.path();
            let removed = if name.starts_with(NEW) || name.starts_with(OLD) {
                incomplete += usize::from(name.starts_with(NEW));
                std::fs::remove_dir_all(&path)
            } else if name.starts_with(INITDB_PASSWORD) {
                std::fs::remove_file(&path)
            } else {
                continue;
            };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).context("remove", &path);
                }
                _ => {}
            }
        }
        Ok(incomplete)
    });
    removal.await.unwrap_or_else(|error| Err(io::Error::other(error)).context("clean up", layout.data_dir()))
}

fn beside(layout: &Layout, prefix: &str) -> PathBuf {
    layout.data_dir().join(format!("{prefix}{:016x}", rand::random::<u64>()))
}

/// The inputs of one run of `initdb`: an empty directory and a password file, both owned by the user that it runs as.
struct Scratch {
    dir: PathBuf,
    password_file: PathBuf,
}

impl Scratch {
    fn new(layout: &Layout, os_user: Option<&OsUser>, password: &SecretString) -> Result<Self, EmbeddedError> {
        let scratch = Self { dir: beside(layout, NEW), password_file: beside(layout, INITDB_PASSWORD) };
        DirBuilder::new().mode(0o700).create(&scratch.dir).context("create", &scratch.dir)?;
        os_user::give_to(&scratch.dir, os_user)?;
        write_atomically(&scratch.password_file, &format!("{}\n", password.expose_secret()), 0o600)?;
        os_user::give_to(&scratch.password_file, os_user)?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.password_file);
        // It does not exist when it was renamed. The next start deletes what a killed `initdb` left.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A process group, killed when this value is dropped.
struct ProcessGroup(Option<u32>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choose_port_keeps_port_until_taken_and_without_leases() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::claim(dir.path(), None).unwrap();
        let (port, old) = choose_port(&layout, None, false).unwrap();
        assert_eq!((old, choose_port(&layout, None, true).unwrap()), (None, (port, None)));
        let _other = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let message = choose_port(&layout, None, true).unwrap_err().to_string();
        assert!(message.contains(&port.to_string()), "{message}");
        let (fresh, old) = choose_port(&layout, None, false).unwrap();
        assert!(fresh != port && old == Some(port));
        assert_eq!(written_port(&layout), Some(fresh));
        assert_eq!(choose_port(&layout, Some(5432), true).unwrap(), (5432, Some(fresh)));
        assert_eq!(choose_port(&layout, Some(5432), true).unwrap(), (5432, None));
    }

    #[test]
    fn password_of_existing_cluster_is_not_replaced_when_missing() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::claim(dir.path(), None).unwrap();
        let first = password(&layout).unwrap();
        assert_eq!(password(&layout).unwrap().expose_secret(), first.expose_secret());
        std::fs::create_dir(layout.pgdata()).unwrap();
        std::fs::write(layout.pgdata().join("PG_VERSION"), "15\n").unwrap();
        std::fs::remove_file(layout.password_file()).unwrap();
        assert!(password(&layout).unwrap_err().to_string().contains("missing"));
    }
}
