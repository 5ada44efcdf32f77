//! The line between a daemon and the supervisor of its server: a socket in the data directory, one word per message.
//!
//! The daemon says `hello <linger in milliseconds>`, the supervisor answers `supervising <directory of the binaries>`.
//! Then nothing, until the daemon says `stop` (answered by `stopped` when Postgres is down) or `keep` (answered by
//! `keeping`), or its end closes without a word, which means the same as `keep`: the daemon was killed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::layout::Layout;

pub(super) const HELLO: &str = "hello";
pub(super) const SUPERVISING: &str = "supervising";
pub(super) const STOP: &str = "stop";
pub(super) const STOPPED: &str = "stopped";
pub(super) const KEEP: &str = "keep";
pub(super) const KEEPING: &str = "keeping";

/// A supervisor answers at once, or it is on its way out.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
const LONGEST_LINE: usize = 8192;

/// The daemon's end of the line.
#[derive(Debug)]
pub(super) struct Control {
    stream: UnixStream,
    /// The binaries the running server was started from.
    pub(super) bin_dir: PathBuf,
}

impl Control {
    /// Joins the supervisor of this data directory; `None` when there is none, or one that is about to end.
    pub(super) async fn join(layout: &Layout, linger: Duration) -> Option<Self> {
        let mut stream = UnixStream::connect(layout.control_socket()).await.ok()?;
        let answer = timeout(ANSWER_DEADLINE, async {
            stream.write_all(format!("{HELLO} {}\n", linger.as_millis()).as_bytes()).await?;
            read_line(&mut stream).await
        });
        let answer = answer.await.ok()?.ok()?;
        let bin_dir = PathBuf::from(answer.strip_prefix(SUPERVISING)?.trim_start());
        Some(Self { stream, bin_dir })
    }

    /// Says `word` and waits for `answer`, or for the supervisor's end, until `deadline` has passed.
    pub(super) async fn say(&mut self, word: &str, answer: &str, deadline: Duration) -> io::Result<()> {
        let exchange = async {
            self.stream.write_all(format!("{word}\n").as_bytes()).await?;
            while read_line(&mut self.stream).await? != answer {}
            Ok(())
        };
        match timeout(deadline, exchange).await {
            Ok(Err(error)) if ended(&error) => Ok(()),
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Ends when the supervisor has ended, and Postgres before it.
    pub(super) async fn closed(&self) {
        while self.stream.readable().await.is_ok() && !self.is_closed() {}
    }

    /// Whether the supervisor's end is known to have closed.
    pub(super) fn is_closed(&self) -> bool {
        match self.stream.try_read(&mut [0; 64]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

fn ended(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// One line without its end. Read byte by byte: messages are few and short, and nothing is read too far.
pub(super) async fn read_line(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return String::from_utf8(line).map_err(io::Error::other),
            _ if line.len() >= LONGEST_LINE => return Err(io::ErrorKind::InvalidData.into()),
            byte => line.push(byte),
        }
    }
}
