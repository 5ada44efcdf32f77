//! Runs the built program in an empty directory and environment, with a timeout.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// On an idle machine no operation of these tests takes more than two seconds.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Done {
    /// The exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program in a separate directory.
pub(crate) struct Program {
    pub(crate) command: Command,
    pub(crate) directory: TempDir,
}

/// The program with these arguments; it finds no daemon unless the test sets its address.
pub(crate) fn pgdibs(arguments: &[&str]) -> Program {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgdibs"));
    command.args(arguments).current_dir(directory.path()).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("USER", "tester");
    Program { command, directory }
}

impl Program {
    pub(crate) fn with_daemon(mut self, url: &str) -> Self {
        self.command.env("PGDIBS_URL", url);
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Resets ignored signals to their defaults: background jobs of a shell ignore SIGINT and SIGQUIT.
    pub(crate) fn with_default_signals(mut self) -> Self {
        if cfg!(target_os = "linux") {
            let mut env = Command::new("env");
            env.arg("--default-signal=HUP,INT,QUIT,TERM").arg(self.command.get_program()).args(self.command.get_args());
            env.current_dir(self.directory.path()).env_clear();
            env.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            self.command = env;
        }
        self
    }

    /// Runs it to its end.
    pub(crate) fn done(self) -> Done {
        self.start().done()
    }

    /// Starts it with pipes.
    pub(crate) fn start(mut self) -> Running {
        let mut child =
            self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let lines = lines_of(child.stdout.take().unwrap());
        let errors = lines_of(child.stderr.take().unwrap());
        Running {
            child,
            stdin,
            lines,
            errors,
            seen: String::new(),
            errors_seen: String::new(),
            _directory: self.directory,
        }
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line + "\n").is_err() {
                return;
            }
        }
    });
    lines
}

fn read_until(lines: &Receiver<String>, seen: &mut String, wanted: &str) {
    loop {
        match lines.recv_timeout(DEADLINE) {
            Ok(line) => {
                seen.push_str(&line);
                if line.contains(wanted) {
                    return;
                }
            }
            Err(error) => panic!("`{wanted}` is missing ({error}); seen: {seen}"),
        }
    }
}

pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
    seen: String,
    errors_seen: String,
    _directory: TempDir,
}

impl Running {
    /// Waits for a line with this on its standard output.
    pub(crate) fn wait_for_line(&mut self, wanted: &str) {
        read_until(&self.lines, &mut self.seen, wanted);
    }

    /// Waits for a line with this on its standard error.
    pub(crate) fn wait_for_error(&mut self, wanted: &str) {
        read_until(&self.errors, &mut self.errors_seen, wanted);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Closes its standard input and waits for its end.
    pub(crate) fn done(mut self) -> Done {
        self.close_stdin();
        self.done_by_itself()
    }

    /// Waits for its end; its standard input stays open, so another cause must end it.
    pub(crate) fn done_by_itself(mut self) -> Done {
        // Both outputs close when it and its command have ended.
        let ends = [(&self.lines, &mut self.seen), (&self.errors, &mut self.errors_seen)];
        let [stdout, stderr] = ends.map(|(lines, seen)| {
            loop {
                match lines.recv_timeout(DEADLINE) {
                    Ok(line) => seen.push_str(&line),
                    Err(RecvTimeoutError::Disconnected) => return std::mem::take(seen),
                    Err(RecvTimeoutError::Timeout) => panic!("still running after {DEADLINE:?}: {seen}"),
                }
            }
        });
        let code = self.child.wait().unwrap().code();
        Done { code, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It still runs only after a failed assertion.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}
