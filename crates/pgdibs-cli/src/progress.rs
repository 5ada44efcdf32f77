//! A progress line on standard error about work that takes longer than a second; none when that is no terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pgdibs::{Client, Error, Method, Response};
use serde_json::{Value, json};

/// Work that takes less shows no line.
const DELAY: Duration = Duration::from_secs(1);
/// Between two updates of the line.
const TICK: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Line {
    text: String,
    shown: bool,
    done: bool,
}

/// Shows a line until it is dropped. Create it within a runtime.
#[derive(Debug)]
pub(super) struct Progress {
    line: Arc<Mutex<Line>>,
}

impl Progress {
    /// Starts to show `text` and the seconds since now.
    pub(super) fn start(text: impl Into<String>) -> Self {
        let line = Arc::new(Mutex::new(Line { text: text.into(), shown: false, done: false }));
        if io::stderr().is_terminal() {
            tokio::spawn(draw(Arc::clone(&line)));
        }
        Self { line }
    }

    /// Sends a request whose body gets the remaining `wait_seconds`. It repeats the request while the daemon answers that the caller
    /// should wait, and shows the daemon's reason.
    ///
    /// # Errors
    /// As [`Client::call_waiting`].
    pub(super) async fn call(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        body: Option<&Value>,
        wait: Duration,
    ) -> Result<Response, Error> {
        let with_wait = |seconds: f64| {
            let mut body = body?.clone();
            body["wait_seconds"] = json!(seconds);
            Some(body)
        };
        client.call_waiting(method, path, with_wait, wait, |error| self.set(error.detail.clone())).await
    }

    /// Changes the text; the seconds continue.
    pub(super) fn set(&self, text: impl Into<String>) {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).text = text.into();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.done = true;
        if line.shown {
            let _closed = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

async fn draw(line: Arc<Mutex<Line>>) {
    let started = Instant::now();
    loop {
        let elapsed = started.elapsed();
        tokio::time::sleep(if elapsed < DELAY { DELAY - elapsed } else { TICK }).await;
        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.done {
            return;
        }
        line.shown = true;
        let shown: String = line.text.chars().take(70).collect();
        let mut stderr = io::stderr().lock();
        let drawn = write!(stderr, "\r\x1b[K{shown} … {} s", started.elapsed().as_secs()).and_then(|()| stderr.flush());
        if drawn.is_err() {
            return;
        }
    }
}
