//! What every handler shares: the service once it is up, and the status of the daemon itself.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use pgdibs_api::problem::Code;
use tokio::sync::watch;

use super::api_error::ApiError;
use super::shared_page::SharedPage;
use super::status_source::StatusSource;
use crate::metrics::Metrics;
use crate::service::Service;

/// The service, or `None` while the server behind it is still starting: requests are answered from the first moment on.
pub type Stage<B> = watch::Receiver<Option<Service<B>>>;

pub(super) struct App<B> {
    pub(super) stage: Stage<B>,
    pub(super) status: Arc<dyn StatusSource>,
    pub(super) page: Arc<SharedPage>,
    pub(super) metrics: Arc<Metrics>,
}

impl<B> Clone for App<B> {
    fn clone(&self) -> Self {
        let (page, metrics) = (Arc::clone(&self.page), Arc::clone(&self.metrics));
        Self { stage: self.stage.clone(), status: Arc::clone(&self.status), page, metrics }
    }
}

/// Before the service is up, every handler that takes it answers 503.
impl<B: Send + Sync + 'static> FromRequestParts<App<B>> for Service<B> {
    type Rejection = ApiError;

    async fn from_request_parts(_parts: &mut Parts, app: &App<B>) -> Result<Self, ApiError> {
        let service = app.stage.borrow().clone();
        service.ok_or_else(|| {
            let reasons = app.status.unready().join("; ");
            ApiError::new(Code::ServerUnavailable, format!("the daemon is starting: {reasons}"))
        })
    }
}
