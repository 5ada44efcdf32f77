//! One line on standard error about what takes longer than a second; nothing when nobody watches.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Quicker things need no words.
const QUIET: Duration = Duration::from_secs(1);
/// Between two drawings of the line.
const TICK: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Line {
    text: String,
    shown: bool,
    done: bool,
}

/// Shows what is going on until it is dropped. Must be made inside the runtime.
#[derive(Debug)]
pub(super) struct Progress {
    line: Arc<Mutex<Line>>,
}

impl Progress {
    /// Starts to show `text` with the seconds that have passed.
    pub(super) fn start(text: impl Into<String>) -> Self {
        let line = Arc::new(Mutex::new(Line { text: text.into(), shown: false, done: false }));
        if io::stderr().is_terminal() {
            tokio::spawn(draw(Arc::clone(&line)));
        }
        Self { line }
    }

    /// Shows why the daemon asks to wait.
    pub(super) fn refused(&self, refusal: &pgdibs::ApiError) {
        self.now(refusal.detail.clone());
    }

    /// Changes the text; the seconds go on.
    pub(super) fn now(&self, text: impl Into<String>) {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).text = text.into();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.done = true;
        if line.shown {
            let _nobody_to_tell = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

async fn draw(line: Arc<Mutex<Line>>) {
    let began = Instant::now();
    loop {
        let passed = began.elapsed();
        tokio::time::sleep(if passed < QUIET { QUIET - passed } else { TICK }).await;
        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.done {
            return;
        }
        line.shown = true;
        let shown: String = line.text.chars().take(70).collect();
        let mut stderr = io::stderr().lock();
        let drawn = write!(stderr, "\r\x1b[K{shown} … {} s", began.elapsed().as_secs()).and_then(|()| stderr.flush());
        if drawn.is_err() {
            return;
        }
    }
}
