//! Readers of the bus: each has a place in what is kept, and no queue of its own.

use std::sync::Arc;

use tokio::sync::watch;

use super::bus::{Events, Record};

/// The reader has fallen behind: what it would read next is not kept any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Lagged;

/// A place in the events.
#[derive(Debug)]
pub struct Reader {
    events: Arc<Events>,
    last: watch::Receiver<u64>,
    next: u64,
}

impl Events {
    /// A reader of the events from now on.
    pub fn reader(self: &Arc<Self>) -> Reader {
        let next = self.state.lock().next;
        Reader::new(Arc::clone(self), self.last.subscribe(), next)
    }

    /// A reader of the events after that with this id; `None` when some of them are not kept, or the id is not of this daemon.
    pub fn reader_after(self: &Arc<Self>, id: &str) -> Option<Reader> {
        let (instance, number) = id.rsplit_once('-')?;
        let number: u64 = number.parse().ok()?;
        let state = self.state.lock();
        let is_kept = number < state.next && number + 1 >= state.next - state.ring.len() as u64;
        if instance.parse() != Ok(self.instance) || !is_kept {
            return None;
        }
        drop(state);
        Some(Reader::new(Arc::clone(self), self.last.subscribe(), number + 1))
    }

    /// A reader of all that is kept, and of what follows.
    pub fn reader_of_kept(self: &Arc<Self>) -> Reader {
        let state = self.state.lock();
        let first = state.next - state.ring.len() as u64;
        drop(state);
        Reader::new(Arc::clone(self), self.last.subscribe(), first)
    }
}

impl Reader {
    fn new(events: Arc<Events>, last: watch::Receiver<u64>, next: u64) -> Self {
        Self { events, last, next }
    }

    /// The next events, at most so many.
    ///
    /// # Errors
    /// [`Lagged`]; the reader then goes on with the oldest that is kept.
    pub fn take(&mut self, most: usize) -> Result<Vec<Arc<Record>>, Lagged> {
        let state = self.events.state.lock();
        let first = state.next - state.ring.len() as u64;
        if self.next < first {
            self.next = first;
            return Err(Lagged);
        }
        let skipped = usize::try_from(self.next - first).unwrap_or(usize::MAX);
        let taken: Vec<Arc<Record>> = state.ring.iter().skip(skipped).take(most).cloned().collect();
        self.next += taken.len() as u64;
        Ok(taken)
    }

    /// The id of the event before the next one.
    pub fn last_id(&self) -> String {
        format!("{}-{}", self.events.instance, self.next - 1)
    }

    /// Resolves when there is something to take.
    pub async fn wait(&mut self) {
        let next = self.next;
        if self.last.wait_for(|last| *last >= next).await.is_err() {
            // The sender lives as long as `events`.
            std::future::pending::<()>().await;
        }
    }
}
