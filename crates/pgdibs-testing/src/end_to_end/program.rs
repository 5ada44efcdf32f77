//! One run of the program, as by a user.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::cluster::bin_dir;
use crate::logs::keep_text;
use crate::wait::until;

#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Its standard output; the exit code must be 0.
    #[track_caller]
    pub fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

/// The program with these arguments in this directory, with a clean environment except for the Postgres programs.
pub fn pgdibs(directory: &Path, arguments: &[&str]) -> Command {
    let test = std::env::current_exe().unwrap();
    // The test is at target/<profile>/deps/<test>, and the program that cargo built with it at target/<profile>/pgdibs.
    let mut command = Command::new(test.ancestors().nth(2).unwrap().join("pgdibs"));
    command.args(arguments).current_dir(directory).env_clear();
    for name in ["PATH", "HOME", "LANG", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(dir) = bin_dir() {
        command.env("PGDIBS_PG_BIN_DIR", dir);
    }
    command.env("USER", "tester").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
#[track_caller]
pub fn run(mut command: Command) -> Finished {
    let child = Started(Some(command.spawn().unwrap()));
    child.done()
}

/// A running program; the drop kills it.
pub struct Started(pub Option<Child>);

impl Started {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.as_ref().unwrap().id()).unwrap()
    }

    #[track_caller]
    pub fn done(mut self) -> Finished {
        let child = self.0.as_mut().unwrap();
        let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
            let mut pipe = pipe.unwrap();
            std::thread::spawn(move || {
                let mut text = String::new();
                let _ = pipe.read_to_string(&mut text);
                text
            })
        };
        let stdout = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
        let stderr = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
        let status = until("the program ends", || match child.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => Err("it still runs".to_owned()),
        });
        self.0 = None;
        let done = Finished { code: status.code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() };
        // Standard output contains the requested URL.
        keep_text("stderr", &done.stderr);
        done
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The duration and the result of `work`.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let began = std::time::Instant::now();
    let result = work();
    (began.elapsed(), result)
}
