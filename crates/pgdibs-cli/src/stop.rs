//! `pgdibs stop`: ends the daemon on a data directory of this machine, and waits until it has ended.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::args::StopArgs;
use super::context::Context;
use super::error::CliError;
use super::progress::Progress;
use pgdibs_server::config::{HostPort, ServeFlags};
use pgdibs_server::endpoint_file::EndpointFile;
use pgdibs_server::offline::{self, EmbeddedError, Processes};

/// A daemon exits within 8 s of SIGTERM.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(15);
/// A daemon answers `/livez` within milliseconds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// Ends the daemon that the data directory names.
///
/// # Errors
/// There is none, it is another one than `--url` names, or it does not end.
pub(super) async fn stop(context: &Context, args: StopArgs) -> Result<(), CliError> {
    let data_dir_is_named = args.data_dir.is_some();
    let flags = args.data_dir.into_iter().fold(ServeFlags::default(), |flags, path| flags.with("data_dir", path));
    let config = context.load_for_client(flags)?;
    if let Some(url) = &context.url {
        refuse_other_machine(url)?;
    }
    if config.server_url.is_some() && !data_dir_is_named {
        return Err(CliError::failed(
            "the configured daemon has no data directory, because it uses the server of PGDIBS_SERVER_URL: pgdibs does not know its process",
        )
        .hint("stop it where it was started: with Ctrl-C, SIGTERM or its service manager"));
    }
    let data_dir = offline::data_dir(config.data_dir.as_deref()).map_err(embedded_error)?;
    let endpoint = EndpointFile::read(&data_dir).map(|endpoint| endpoint.url);
    let Some(process) = Processes::of(&data_dir).map_err(embedded_error)?.daemon else {
        let message = format!("no daemon runs on the data directory {}", data_dir.display());
        let client = context.client_with_timeout(Some(PROBE_TIMEOUT))?;
        if client.get("/livez").await.is_err() {
            return Err(CliError::unavailable(message)
                .hint("`pgdibs status` shows the daemon that answers; --data-dir names the directory of another one"));
        }
        return Err(CliError::failed(format!(
            "{message}; the daemon at {} runs on another one, or on a given server (--server-url), where pgdibs does not know its process",
            client.url()
        ))
        .hint("name its directory with --data-dir; on a given server, stop it where it was started: with Ctrl-C, SIGTERM or its service manager"));
    };
    if let (Some(url), Some(endpoint)) = (&context.url, &endpoint)
        && !is_same_address(url, endpoint)
    {
        return Err(CliError::failed(format!(
            "the daemon on the data directory {} listens at {endpoint}, not at {url}",
            data_dir.display()
        ))
        .hint("name the data directory of the other daemon with --data-dir, or leave --url (PGDIBS_URL) out"));
    }
    let named = endpoint.as_ref().map_or_else(String::new, |url| format!(" at {url}"));
    let named = format!("the daemon{named} (process {process})");
    terminate(process, &named)?;
    let progress = Progress::start(format!("waiting for the end of {named}"));
    let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
    let supervisor = loop {
        let processes = Processes::of(&data_dir).map_err(embedded_error)?;
        if processes.daemon != Some(process) && !runs(process) {
            break processes.supervisor;
        }
        if Instant::now() >= deadline {
            let seconds = SHUTDOWN_TIMEOUT.as_secs();
            return Err(CliError::failed(format!("{named} did not end within {seconds} s of SIGTERM"))
                .hint(format!("`kill -9 {process}` ends it; the next daemon continues its work")));
        }
        tokio::time::sleep(POLL).await;
    };
    drop(progress);
    let stopped =
        json!({"url": endpoint, "process": process, "data_dir": data_dir, "server_stays": supervisor.is_some()});
    context.output.result(&json!({"stopped": stopped}), || {
        let server = match supervisor {
            Some(_) => "its Postgres stays for the leases that live, and stops by itself unless a daemon starts",
            None => "its Postgres has stopped",
        };
        format!("stopped {named}; {server}")
    })
}

fn embedded_error(error: EmbeddedError) -> CliError {
    CliError::failed(error.to_string())
}

fn refuse_other_machine(url: &str) -> Result<(), CliError> {
    match address(url) {
        Some(address) if address.is_loopback() => Ok(()),
        _ => Err(CliError::usage(format!("{url} is not an address of this machine's loopback: pgdibs stop ends a daemon of this machine only"))
            .hint("stop that daemon on its own machine; without --url (PGDIBS_URL), pgdibs stop ends the one of the data directory")),
    }
}

fn address(url: &str) -> Option<HostPort> {
    let authority = url.strip_prefix("http://")?.split('/').next()?;
    HostPort::parse(authority).or_else(|_| HostPort::parse(&format!("{authority}:80"))).ok()
}

/// Two loopback addresses are those of one daemon when they have the same port.
fn is_same_address(url: &str, endpoint: &str) -> bool {
    address(url).map(|address| address.port) == address(endpoint).map(|address| address.port)
}

fn terminate(process: u32, named: &str) -> Result<(), CliError> {
    // A lock file that a container shares with this machine names a process of the container.
    let is_elsewhere = Path::new("/proc/self/cmdline").exists() && !is_daemon(process);
    let Some(pid) = i32::try_from(process).ok().filter(|_| !is_elsewhere) else {
        return Err(CliError::failed(format!("{named} does not run in this container or machine"))
            .hint("run `pgdibs stop` where the daemon runs"));
    };
    match kill(Pid::from_raw(pid), Signal::SIGTERM) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => {
            Err(CliError::failed(format!("cannot stop {named}: {error}")).hint("stop it as the user that started it"))
        }
    }
}

fn is_daemon(process: u32) -> bool {
    let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == b"serve")
}

/// Whether the process has not ended. One that has ended and that its parent has not reaped has no command line.
fn runs(process: u32) -> bool {
    match Path::new("/proc/self/cmdline").exists() {
        true => is_daemon(process),
        false => i32::try_from(process).is_ok_and(|pid| kill(Pid::from_raw(pid), None).is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_of_this_machine() {
        for url in ["http://127.0.0.1:7432", "http://localhost:7432/", "http://[::1]:7432", "http://localhost"] {
            refuse_other_machine(url).unwrap();
        }
        for url in ["http://10.0.0.7:7432", "http://pgdibs:7432", "https://127.0.0.1:7432", "pgdibs"] {
            let error = refuse_other_machine(url).unwrap_err().to_string();
            assert!(error.contains(url) && error.contains("of this machine only"), "{error}");
        }
        assert!(is_same_address("http://localhost:7432/", "http://127.0.0.1:7432"));
        assert!(!is_same_address("http://localhost:7433", "http://127.0.0.1:7432"));
    }
}
