//! Runs one program of a build, in its own process group, with bounded output and a deadline.
//!
//! The process group is terminated when the program exits, at the deadline, when the build is cancelled, and when the future is
//! dropped. A process that leaves the group (`setsid`) survives; it does not delay the build.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::capture::Capture;
use super::group::Group;

/// Reads of 64 KiB after the exit: more than the capacity of a pipe, and a bound for a pipe that another process still writes to.
const MAX_FINAL_READS: usize = 64;

/// Why the program stopped.
#[derive(Debug)]
pub(crate) enum Outcome {
    Exited(ExitStatus),
    TimedOut,
    Cancelled,
}

/// A program that has stopped.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) outcome: Outcome,
    /// Standard output and standard error, in the order of writing.
    pub(crate) output: Capture,
}

/// Runs the program until it exits, until `deadline`, or until `cancel` is cancelled; adds its output to `output`. Its standard input is
/// empty.
///
/// # Errors
/// The program cannot be started.
pub(crate) async fn run(
    mut command: Command,
    mut output: Capture,
    deadline: Instant,
    cancel: &CancellationToken,
) -> io::Result<Finished> {
    let (reader, writer) = io::pipe()?;
    let mut reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let mut child = command.spawn()?;
    let mut group = Group::of(&child);
    // Closes this process's copies of the writing end; otherwise the pipe would never end.
    drop(command);
    let mut buffer = vec![0_u8; 64 * 1024];
    let mut open = true;
    let mut read = |result: io::Result<usize>, buffer: &[u8]| match result {
        Ok(count) if count > 0 => {
            output.push(&buffer[..count]);
            true
        }
        _ => false,
    };
    let outcome = loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break Outcome::Cancelled,
            () = tokio::time::sleep_until(deadline) => break Outcome::TimedOut,
            status = child.wait() => break Outcome::Exited(status?),
            result = reader.read(&mut buffer), if open => open = read(result, &buffer),
        }
    };
    // Reads while the group terminates, so that no process of it blocks on a full pipe.
    {
        let mut terminate = std::pin::pin!(group.terminate(&mut child));
        loop {
            tokio::select! {
                biased;
                () = &mut terminate => break,
                result = reader.read(&mut buffer), if open => open = read(result, &buffer),
            }
        }
    }
    // Reads the rest without waiting for the end of the pipe, which a process that left the group may keep open.
    let mut rest = File::from(reader.into_nonblocking_fd()?);
    for _ in 0..MAX_FINAL_READS {
        if !read(rest.read(&mut buffer), &buffer) {
            break;
        }
    }
    Ok(Finished { outcome, output })
}
