//! Running one program of a build: its own process group, bounded output, an end in time.
//!
//! Everything in the group is ended when the program has ended, when its time is up, when the build is cancelled, and when the
//! future is dropped. A process that makes itself a group of its own (`setsid`) is out of reach; it does not hold up the build.

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

/// With 64 KiB each it is more than any pipe holds, and an end for a pipe that is written to for ever.
const MOST_READS_AT_THE_END: usize = 64;

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// By itself.
    Exited(ExitStatus),
    /// Its time was up.
    TimedOut,
    /// The build was cancelled.
    Cancelled,
}

/// How it ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How.
    pub(crate) ending: Ending,
    /// Standard output and standard error, merged as they were written.
    pub(crate) output: Capture,
}

/// Runs the program until it ends, `deadline` comes or `cancel` is cancelled; what it says goes into `output`. Its standard input
/// is empty.
///
/// # Errors
/// It could not be started.
pub(crate) async fn run(
    mut command: Command,
    mut output: Capture,
    deadline: Instant,
    cancel: &CancellationToken,
) -> io::Result<Ended> {
    let (reader, writer) = io::pipe()?;
    let mut reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let mut child = command.spawn()?;
    let mut group = Group::of(&child);
    // Our copies of the writing end go with `command`; otherwise the pipe would never end.
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
    let ending = loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break Ending::Cancelled,
            () = tokio::time::sleep_until(deadline) => break Ending::TimedOut,
            status = child.wait() => break Ending::Exited(status?),
            result = reader.read(&mut buffer), if open => open = read(result, &buffer),
        }
    };
    // Reading goes on while the group ends, so that nobody's last words block on a full pipe.
    {
        let mut end = std::pin::pin!(group.end(&mut child));
        loop {
            tokio::select! {
                biased;
                () = &mut end => break,
                result = reader.read(&mut buffer), if open => open = read(result, &buffer),
            }
        }
    }
    // What is left in the pipe, without waiting for its end: whoever left the group may hold it for ever.
    let mut rest = File::from(reader.into_nonblocking_fd()?);
    for _ in 0..MOST_READS_AT_THE_END {
        if !read(rest.read(&mut buffer), &buffer) {
            break;
        }
    }
    Ok(Ended { ending, output })
}
