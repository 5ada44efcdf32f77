//! `GET /`: the page for people. HTML with everything that `GET /v1/status` answers; its script replaces what changed when an event arrives.

mod view;

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use askama::Template as _;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, IntoResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgdibs_api::problem::Code;
use pgdibs_core::backend::Backend;
use sha2::{Digest, Sha256};

use self::view::{Page, SCRIPT, STYLE};
use super::api_error::ApiError;
use super::app::App;
use super::shared_page::Shown;
use super::status;

/// The page loads nothing, runs its own script alone, calls this daemon alone, and stands in no frame.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

/// So many events are shown.
const EVENTS: usize = 50;

/// What a page shows at this moment.
async fn read<B: Backend + 'static>(app: &App<B>) -> Shown {
    let service = app.stage.borrow().clone();
    // Before the events: the script asks for those after it.
    let last = service.as_ref().map(|service| service.events().reader().last_id()).unwrap_or_default();
    let mut events = service.as_ref().map(|service| service.events().kept()).unwrap_or_default();
    events.drain(..events.len().saturating_sub(EVENTS));
    events.reverse();
    Shown::new(status::current(service.as_ref(), &*app.status).await, events, last)
}

/// The page for people.
// Also while the daemon starts or its server is lost, unlike other routes: it says so.
#[utoipa::path(get, path = "/", operation_id = "page", responses(
    (status = 200, description = "The page.", body = String, content_type = "text/html"),
))]
pub(super) async fn show<B: Backend + 'static>(
    State(app): State<App<B>>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let is_fresh = headers.get(header::CACHE_CONTROL).is_some_and(|value| value.as_bytes() == b"no-cache");
    let shown = app.page.read(is_fresh, read(&app)).await;
    let address = address(&headers);
    let page = shown.rendered(&address, |shown| Page::new(shown, &address).render());
    let page = page.map_err(|error| ApiError::new(Code::Internal, format!("the page cannot be rendered: {error}")))?;
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Ok((headers, Html(page)))
}

/// The daemon's address as the reader called it, for lines to copy. A host that a shell would read otherwise is left out.
fn address(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b)) && !host.is_empty();
    format!("http://{}", if is_plain { host } else { "HOST:PORT" })
}
