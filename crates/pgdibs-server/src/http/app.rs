//! What every handler shares: the service once it is up, and whoever knows about the daemon itself.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::watch;

use super::problem::{Code, Problem};
use super::status_source::StatusSource;
use crate::service::Service;

/// The service, or `None` while the server behind it is still starting: the edge answers from the first moment on.
pub type Stage<W> = watch::Receiver<Option<Service<W>>>;

pub(super) struct App<W> {
    pub(super) stage: Stage<W>,
    pub(super) status: Arc<dyn StatusSource>,
}

impl<W> Clone for App<W> {
    fn clone(&self) -> Self {
        Self { stage: self.stage.clone(), status: Arc::clone(&self.status) }
    }
}

/// The service. Before it is up: 503, try again.
pub(super) struct Up<W>(pub(super) Service<W>);

impl<W: Send + Sync + 'static> FromRequestParts<App<W>> for Up<W> {
    type Rejection = Problem;

    async fn from_request_parts(_parts: &mut Parts, app: &App<W>) -> Result<Self, Problem> {
        let service = app.stage.borrow().clone();
        service.map(Self).ok_or_else(|| {
            let reasons = app.status.unready().join("; ");
            Problem::new(Code::ServerUnavailable, format!("the daemon is still starting: {reasons}"))
        })
    }
}
