//! The control connection between a daemon and the supervisor of its server: a Unix socket in the data directory, one line a message.
//!
//! The daemon sends `attach <linger in milliseconds>` and the supervisor answers `attached <directory of the binaries>`. Later the
//! daemon may send `stop`, answered by `stopped` when Postgres is down, or `keep`, answered by `keeping`. A connection that closes
//! without either means `keep`: the daemon was killed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::layout::Layout;

pub(super) const ATTACH: &str = "attach";
pub(super) const ATTACHED: &str = "attached";
pub(super) const STOP: &str = "stop";
pub(super) const STOPPED: &str = "stopped";
pub(super) const KEEP: &str = "keep";
pub(super) const KEEPING: &str = "keeping";

/// A supervisor that does not answer within this time is stopping its server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_LINE_BYTES: usize = 8192;

/// The daemon's end of the connection.
#[derive(Debug)]
pub(super) struct Control {
    stream: UnixStream,
    /// The binaries that the running server was started from.
    pub(super) bin_dir: PathBuf,
}

impl Control {
    /// Connects to the supervisor of this data directory; `None` when there is none, or it is about to exit.
    pub(super) async fn attach(layout: &Layout, linger: Duration) -> Option<Self> {
        let mut stream = UnixStream::connect(layout.control_socket()).await.ok()?;
        let answer = timeout(ANSWER_TIMEOUT, async {
            stream.write_all(format!("{ATTACH} {}\n", linger.as_millis()).as_bytes()).await?;
            read_line(&mut stream).await
        });
        let answer = answer.await.ok()?.ok()?;
        let bin_dir = PathBuf::from(answer.strip_prefix(ATTACHED)?.trim_start());
        Some(Self { stream, bin_dir })
    }

    /// Sends `request` and waits for `answer` or for the supervisor's exit, at most for `patience`.
    pub(super) async fn request(&mut self, request: &str, answer: &str, patience: Duration) -> io::Result<()> {
        let exchange = async {
            self.stream.write_all(format!("{request}\n").as_bytes()).await?;
            while read_line(&mut self.stream).await? != answer {}
            Ok(())
        };
        match timeout(patience, exchange).await {
            Ok(Err(error)) if is_disconnect(&error) => Ok(()),
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Returns when the supervisor has exited; Postgres exits before it.
    pub(super) async fn closed(&self) {
        while self.stream.readable().await.is_ok() && !self.is_closed() {}
    }

    pub(super) fn is_closed(&self) -> bool {
        match self.stream.try_read(&mut [0; 64]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

fn is_disconnect(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Reads one line, without its end. It reads byte by byte, so that it never takes bytes of the next message.
pub(super) async fn read_line(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return String::from_utf8(line).map_err(io::Error::other),
            _ if line.len() >= MAX_LINE_BYTES => return Err(io::ErrorKind::InvalidData.into()),
            byte => line.push(byte),
        }
    }
}
