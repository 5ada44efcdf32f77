//! A daemon process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::api::Api;
use crate::logs::{end_of, keep_log};
use crate::process::signal;
use crate::wait::until;

/// The log line before the address.
const LISTENS: &str = "pgdibs listens on ";

/// A daemon that serves. The drop kills it, and it ends when the test process ends (`--end-with-stdin`).
pub struct Daemon {
    child: Child,
    _stdin: Option<ChildStdin>,
    log: PathBuf,
    pub api: Api,
}

impl Daemon {
    /// Starts it and waits until its log has the address; its server may still be starting.
    #[track_caller]
    pub fn start(command: Command, log: &Path) -> Self {
        match Self::try_start(command, log) {
            Ok(daemon) => daemon,
            Err((status, log)) => panic!("the daemon ended ({status}): {log}"),
        }
    }

    /// As [`Daemon::start`]; the exit status and the log if it ends instead.
    #[track_caller]
    pub fn try_start(mut command: Command, log: &Path) -> Result<Self, (ExitStatus, String)> {
        let file = File::create(log).unwrap();
        command.arg("--end-with-stdin").stdin(Stdio::piped()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let output = || std::fs::read_to_string(log).unwrap_or_default();
        let found = until("the daemon listens or ends", || {
            if let Some((_, after)) = output().split_once(LISTENS)
                && let Some((url, _)) = after.split_once(char::is_whitespace)
            {
                return Ok(Ok(url.to_owned()));
            }
            match child.try_wait().unwrap() {
                Some(status) => Ok(Err((status, output()))),
                None => Err(output()),
            }
        });
        match found {
            Ok(url) => Ok(Self { child, _stdin: stdin, log: log.to_owned(), api: Api::new(&url) }),
            Err(ended) => {
                keep_log("daemon", log);
                Err(ended)
            }
        }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its open files, including sockets.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Waits until `/readyz` is 200.
    #[track_caller]
    pub fn until_ready(&mut self) {
        let (api, log) = (self.api.clone(), self.log.clone());
        let child = &mut self.child;
        until("the daemon is ready", || match api.try_call(pgdibs::Method::GET, "/readyz", None) {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.body.to_string()),
            Err(error) => {
                assert!(child.try_wait().unwrap().is_none(), "{}", std::fs::read_to_string(&log).unwrap());
                Err(error)
            }
        });
    }

    pub fn signal(&self, which: Signal) {
        signal(self.pid(), which);
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end; returns the status and the duration.
    #[track_caller]
    pub fn ended(&mut self) -> (ExitStatus, Duration) {
        let began = std::time::Instant::now();
        let child = &mut self.child;
        let status = until("the daemon ends", || child.try_wait().unwrap().ok_or_else(|| "it still runs".to_owned()));
        (status, began.elapsed())
    }

    /// Ends it with SIGTERM; it must succeed within the 10 s that Docker allows.
    #[track_caller]
    pub fn stop(mut self) {
        self.api.keep_pages();
        self.signal(Signal::SIGTERM);
        let (status, took) = self.ended();
        assert!(status.success(), "{status}: {}", self.log());
        assert!(took < Duration::from_secs(8), "took {took:?}: {}", self.log());
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        keep_log("daemon", &self.log);
        if std::thread::panicking() {
            println!("{}", end_of(&self.log.display().to_string(), &self.log()));
        }
    }
}
