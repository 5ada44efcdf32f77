//! HTTP: the only module that knows axum. Every route stands in [`routes`], the types that it reads and answers in `pgdibs-api`.

mod activity;
mod api_error;
mod app;
mod authenticator;
mod connection_url;
mod databases;
mod events;
mod extractors;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzed;
mod layers;
mod leases;
mod metrics;
mod openapi;
mod page;
mod phases;
mod pools;
mod probes;
mod release_on_disconnect;
mod reserve;
mod runs;
mod serve;
mod shared_page;
mod status;
mod status_source;
mod templates;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post, put};
use pgdibs_api::problem::Code;
use pgdibs_core::backend::Backend;
use pgdibs_core::name::shown;

pub use self::activity::Activity;
use self::api_error::ApiError;
use self::app::App;
pub use self::app::Stage;
pub use self::authenticator::Authenticator;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::fuzzed::{body, written_urls};
pub use self::serve::{Bounds, RESERVE, bind, serve};
pub use self::status_source::{ServerStatus, StatusSource};
use crate::metrics::Metrics;

/// Every route; `openapi/tests/generate.rs` lists the same handlers.
fn routes<B: Backend + 'static>() -> Vec<(&'static str, MethodRouter<App<B>>)> {
    vec![
        ("/", get(page::show::<B>)),
        ("/livez", get(probes::live)),
        ("/healthz", get(probes::health)),
        ("/readyz", get(probes::ready::<B>)),
        ("/metrics", get(metrics::show::<B>)),
        ("/openapi.json", get(openapi::show)),
        ("/v1/status", get(status::show::<B>)),
        ("/v1/events", get(events::stream::<B>)),
        ("/v1/pools", get(pools::list::<B>)),
        ("/v1/pools/{pool}", get(pools::show::<B>).put(pools::put::<B>).delete(pools::delete::<B>)),
        (
            "/v1/pools/{pool}/templates/{fingerprint}",
            get(templates::show::<B>).put(templates::put::<B>).delete(templates::delete::<B>),
        ),
        ("/v1/pools/{pool}/templates/{fingerprint}/log", get(templates::log::<B>)),
        ("/v1/pools/{pool}/templates/{fingerprint}/seal", post(templates::seal::<B>)),
        ("/v1/pools/{pool}/templates/{fingerprint}/renew", post(templates::renew::<B>)),
        ("/v1/pools/{pool}/templates/{fingerprint}/abandon", post(templates::abandon::<B>)),
        ("/v1/leases", get(leases::list::<B>).post(leases::acquire::<B>)),
        ("/v1/leases/batch", post(leases::acquire_batch::<B>)),
        ("/v1/leases/{id}", get(leases::show::<B>).delete(leases::release::<B>)),
        ("/v1/leases/{id}/renew", post(leases::renew::<B>)),
        ("/v1/leases/{id}/reset", post(leases::reset::<B>)),
        ("/v1/leases/{id}/keep", post(leases::keep::<B>)),
        ("/v1/runs", get(runs::list::<B>)),
        ("/v1/runs/{run}", put(runs::put::<B>).delete(runs::delete::<B>)),
        ("/v1/runs/{run}/report", post(runs::post_report::<B>)),
        ("/v1/databases", get(databases::list::<B>)),
        ("/v1/databases/{database}", delete(databases::delete::<B>)),
        ("/v1/databases/{database}/credentials", post(databases::credentials::<B>)),
    ]
}

/// All of HTTP. While `stage` holds no service, probes answer and everything else is a 503 that says why. `activity` tracks each
/// authenticated request.
pub fn router<B: Backend + 'static>(
    stage: Stage<B>,
    status: Arc<dyn StatusSource>,
    authenticator: Authenticator,
    activity: Arc<Activity>,
    metrics: Arc<Metrics>,
) -> Router {
    let router = routes()
        .into_iter()
        .fold(Router::new(), |router, (path, handlers)| router.route(path, handlers))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(activity, activity::track))
        .layer(from_fn_with_state(Arc::new(authenticator), authenticator::authenticate))
        .with_state(App { stage, status, page: Arc::default(), metrics: Arc::clone(&metrics) });
    layers::wrap(router).layer(from_fn_with_state(metrics, metrics::count))
}

async fn no_route(request: Request) -> ApiError {
    let path = shown(request.uri().path());
    ApiError::new(Code::NotFound, format!("there is no route {path}; GET /openapi.json lists those there are"))
}

async fn no_method(request: Request) -> ApiError {
    let (path, method) = (shown(request.uri().path()), request.method());
    let detail = format!("{path} does not take {method}; the Allow header lists what it takes");
    ApiError::new(Code::MethodNotAllowed, detail)
}
