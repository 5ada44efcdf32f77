//! The HTTP edge: the only place that knows axum and JSON. Every route stands in [`routes`], every error in `problem.rs`.

mod app;
mod extract;
mod bounded;
mod databases;
mod authenticator;
mod envelope;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzed;
mod json;
mod leases;
mod metrics;
mod pools;
mod probes;
mod problem;
mod activity;
mod reserve;
mod runs;
mod serve;
mod status;
mod status_source;
mod templates;
mod release_on_disconnect;
mod responses;
mod pool_responses;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use pgdibs_core::backend::Backend;
use pgdibs_core::name::shown;
use tower_http::catch_panic::CatchPanicLayer;

pub use self::activity::Activity;
use self::app::App;
pub use self::app::Stage;
pub use self::authenticator::Authenticator;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::fuzzed::{body, written_urls};
use self::problem::{Code, Problem};
pub use self::serve::{Bounds, RESERVE, bind, serve};
pub use self::status_source::{DaemonStatus, ReconcilerStatus, ReportLine, ServerStatus, StatusSource};

/// Every route. Handlers answer in problems; nothing else writes a status.
fn routes<W: Backend + 'static>() -> Vec<(&'static str, MethodRouter<App<W>>)> {
    vec![
        ("/livez", get(probes::live)),
        ("/healthz", get(probes::live)),
        ("/readyz", get(probes::ready::<W>)),
        ("/metrics", get(metrics::show::<W>)),
        ("/openapi.json", get(openapi)),
        ("/v1/status", get(status::show::<W>)),
        ("/v1/pools", get(pools::list::<W>)),
        ("/v1/pools/{pool}", get(pools::show::<W>).put(pools::put::<W>).delete(pools::delete::<W>)),
        (
            "/v1/pools/{pool}/templates/{fingerprint}",
            get(templates::show::<W>).put(templates::put::<W>).delete(templates::delete::<W>),
        ),
        ("/v1/pools/{pool}/templates/{fingerprint}/seal", post(templates::seal::<W>)),
        ("/v1/pools/{pool}/templates/{fingerprint}/renew", post(templates::renew::<W>)),
        ("/v1/pools/{pool}/templates/{fingerprint}/abandon", post(templates::abandon::<W>)),
        ("/v1/leases", get(leases::list::<W>).post(leases::acquire::<W>)),
        ("/v1/leases/batch", post(leases::acquire_batch::<W>)),
        ("/v1/leases/{id}", get(leases::show::<W>).delete(leases::release::<W>)),
        ("/v1/leases/{id}/renew", post(leases::renew::<W>)),
        ("/v1/leases/{id}/reset", post(leases::reset::<W>)),
        ("/v1/leases/{id}/keep", post(leases::keep::<W>)),
        ("/v1/runs/{run}", put(runs::put::<W>).delete(runs::delete::<W>)),
        ("/v1/databases", get(databases::list::<W>)),
        ("/v1/databases/{database}", delete(databases::delete::<W>)),
        ("/v1/databases/{database}/credentials", post(databases::credentials::<W>)),
    ]
}

/// The whole edge. While `stage` holds no service, probes answer and everything else is a 503 that says why. `activity` notices
/// whoever was let in.
pub fn router<W: Backend + 'static>(
    stage: Stage<W>,
    status: Arc<dyn StatusSource>,
    authenticator: Authenticator,
    activity: Arc<Activity>,
) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, handlers)| router.route(path, handlers))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(activity, activity::notice))
        .layer(from_fn_with_state(Arc::new(authenticator), authenticator::authenticate))
        .layer(CatchPanicLayer::custom(envelope::panicked))
        .layer(from_fn(envelope::wrap))
        .with_state(App { stage, status })
}

/// `GET /openapi.json`. Kept by hand; a test compares it with the routes and the codes.
async fn openapi() -> Response {
    let document = include_str!("../../../../api/openapi.json");
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

async fn no_route(request: Request) -> Problem {
    Problem::new(
        Code::NotFound,
        format!("there is no route {}; GET /openapi.json lists those there are", shown(request.uri().path())),
    )
}

async fn no_method(request: Request) -> Problem {
    Problem::new(
        Code::MethodNotAllowed,
        format!(
            "{} does not take {}; the Allow header lists what it takes",
            shown(request.uri().path()),
            request.method()
        ),
    )
}
