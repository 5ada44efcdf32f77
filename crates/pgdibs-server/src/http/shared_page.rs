//! What a page shows, made once for all readers that asked before it was made: so many browsers cost little more than one.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use parking_lot::Mutex;
use pgdibs_api::status::Status;
use tokio::time::Instant;

use crate::events::Record;

/// The pause between two snapshots for pages, however many browsers are open.
const PAUSE: Duration = Duration::from_millis(250);

/// A reader who opens the page gets what is no older. Its script then asks for what is new.
const LONGEST_AGE: Duration = Duration::from_secs(1);

/// The page is kept for so many addresses by which readers call the daemon.
const ADDRESSES: usize = 4;

/// What a page shows.
pub(super) struct Shown {
    pub(super) status: Status,
    /// The last events, newest first.
    pub(super) events: Vec<Arc<Record>>,
    /// The id of the last event before the status was read.
    pub(super) last: String,
    rendered: Mutex<Vec<(String, Bytes)>>,
}

impl Shown {
    pub(super) fn new(status: Status, events: Vec<Arc<Record>>, last: String) -> Self {
        Self { status, events, last, rendered: Mutex::default() }
    }

    /// The page for readers at this address, rendered at most once.
    pub(super) fn rendered<E>(
        &self,
        address: &str,
        render: impl FnOnce(&Self) -> Result<String, E>,
    ) -> Result<Bytes, E> {
        let mut rendered = self.rendered.lock();
        if let Some((_, page)) = rendered.iter().find(|(of, _)| of == address) {
            return Ok(page.clone());
        }
        let page = Bytes::from(render(self)?);
        if rendered.len() < ADDRESSES {
            rendered.push((address.to_owned(), page.clone()));
        }
        Ok(page)
    }
}

/// The last of what pages show, and when it was begun.
#[derive(Default)]
pub(super) struct SharedPage(tokio::sync::Mutex<Option<(Instant, Arc<Shown>)>>);

impl SharedPage {
    /// What was read after this call, or, unless it must be `fresh`, shortly before it; `read` reads it, unless another call has begun to do so in
    /// the meantime.
    pub(super) async fn read(&self, fresh: bool, read: impl Future<Output = Shown>) -> Arc<Shown> {
        let arrived = Instant::now();
        let mut last = self.0.lock().await;
        if let Some((began, shown)) = last.as_ref() {
            if *began >= arrived || !fresh && began.elapsed() < LONGEST_AGE {
                return Arc::clone(shown);
            }
            tokio::time::sleep_until(*began + PAUSE).await;
        }
        let began = Instant::now();
        let shown = Arc::new(read.await);
        *last = Some((began, Arc::clone(&shown)));
        shown
    }
}
