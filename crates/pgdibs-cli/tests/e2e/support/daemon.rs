//! A daemon in a process of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::kept::{keep_log, keep_pages};
use super::{Api, signal, until};

/// What the first line of the log says before the address.
const LISTENS: &str = "pgdibs listens on ";

/// A daemon that serves; killed when the test is over. It ends by itself when the test process does, however that happens.
pub(crate) struct Daemon {
    child: Child,
    _stdin: Option<ChildStdin>,
    log: PathBuf,
    pub(crate) api: Api,
}

impl Daemon {
    /// Starts it and waits until it says where it listens; its server may still be coming up.
    #[track_caller]
    pub(crate) fn start(command: Command, log: &Path) -> Self {
        match Self::try_start(command, log) {
            Ok(daemon) => daemon,
            Err((status, log)) => panic!("the daemon ended ({status}): {log}"),
        }
    }

    /// As [`Daemon::start`]; how it ended and what it said when it does not listen.
    #[track_caller]
    pub(crate) fn try_start(mut command: Command, log: &Path) -> Result<Self, (ExitStatus, String)> {
        let file = File::create(log).unwrap();
        command.arg("--end-with-stdin").stdin(Stdio::piped()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let said = || std::fs::read_to_string(log).unwrap_or_default();
        let found = until("the daemon listens or ends", || {
            if let Some((_, after)) = said().split_once(LISTENS)
                && let Some((url, _)) = after.split_once(char::is_whitespace)
            {
                return Ok(Ok(url.to_owned()));
            }
            match child.try_wait().unwrap() {
                Some(status) => Ok(Err((status, said()))),
                None => Err(said()),
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

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How many files it has open, sockets among them.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Waits until everything configured is ready.
    #[track_caller]
    pub(crate) fn until_ready(&mut self) {
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

    pub(crate) fn signal(&self, which: Signal) {
        signal(self.pid(), which);
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Its end, and how long that took.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> (ExitStatus, Duration) {
        let began = std::time::Instant::now();
        let child = &mut self.child;
        let status = until("the daemon ends", || child.try_wait().unwrap().ok_or_else(|| "it still runs".to_owned()));
        (status, began.elapsed())
    }

    /// Ends it in an orderly way, which must go well and fast enough for Docker.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        keep_pages(&self.api);
        self.signal(Signal::SIGTERM);
        let (status, took) = self.ended();
        assert!(status.success(), "{status}: {}", self.log());
        assert!(took < Duration::from_secs(8), "took {took:?}: {}", self.log());
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
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
            let log = self.log();
            let from = log.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
            println!("the end of the log {}:\n{}", self.log.display(), &log[from..]);
        }
    }
}
