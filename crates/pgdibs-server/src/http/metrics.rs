//! `GET /metrics`: counters and histograms since the start, and gauges computed from one snapshot for each scrape.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pgdibs_api::pool::{Counts, longest_wait};
use pgdibs_api::status::Daemon;
use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::pool::Pool;
use pgdibs_core::snapshot::Snapshot;
use pgdibs_core::template::{Template, TemplateState};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::api_error::ApiError;
use super::app::App;
use crate::metrics::Metrics;

/// Counters, histograms and gauges in the OpenMetrics format.
// While the server does not answer, what the daemon knows without it; the scrape does not fail.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", responses(
    (status = 200, description = "The metrics.", body = String, content_type = "application/openmetrics-text"),
))]
pub(super) async fn show<B: Backend + 'static>(State(app): State<App<B>>) -> Result<impl IntoResponse, ApiError> {
    let daemon = app.status.daemon();
    let service = app.stage.borrow().clone();
    let asked = Instant::now();
    let snapshot = match service {
        Some(service) => service.snapshot().await.ok(),
        None => None,
    };
    if let Some(snapshot) = &snapshot {
        app.metrics.forget_others(snapshot, asked);
    }
    let mut registry = Registry::with_prefix("pgdibs");
    registry.register_collector(Box::new(Scrape { daemon, snapshot }));
    let mut text = String::new();
    let encoded = encode_registry(&mut text, &registry).and_then(|()| app.metrics.encode(&mut text));
    encoded.and_then(|()| encode_eof(&mut text)).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

/// Counts each answer by its route, which is one of the list of routes.
pub(super) async fn count(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let answer = next.run(request).await;
    metrics.answered(route.as_ref().map_or("none", MatchedPath::as_str), method, answer.status().as_u16());
    answer
}

#[derive(Debug)]
struct Scrape {
    daemon: Daemon,
    /// `None` while the server does not answer.
    snapshot: Option<Snapshot>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        let info = [("version", self.daemon.version.as_str()), ("instance", self.daemon.instance.as_str())];
        page.gauge("info", "The daemon's version. When daemons differ, start those of one version.", [(info, 1_u32)])?;
        let help = "Time since the daemon started. When it is low again and again, the daemon dies: its log says why.";
        page.single("uptime_seconds", help, self.daemon.uptime_seconds)?;
        let help = "Whether this daemon is the one that carries out steps. When the sum over daemons is not 1 for long, see their logs.";
        page.single("reconciling", help, u32::from(self.daemon.reconciling))?;
        let help = "Whether /readyz answers 200. When it is 0, GET /readyz says why.";
        page.single("ready", help, u32::from(self.daemon.ready))?;
        let help = "Whether the Postgres server answered just now. When it is 0, look after the server.";
        page.single("server_reachable", help, u32::from(self.snapshot.is_some()))?;
        let Some(snapshot) = &self.snapshot else { return Ok(()) };
        let limits = &snapshot.limits;
        if let Some(bytes) = limits.free_disk_bytes {
            let help =
                "Free space where the clones are written. Near the floor, free some or lower `warm` and `spares`.";
            page.single("free_disk_bytes", help, bytes)?;
        }
        let help = "No clone is made below this much free space; `disk_floor_mb` sets it.";
        page.single("disk_floor_bytes", help, limits.disk_floor_bytes)?;
        if let Some(slots) = limits.slots_by_connections {
            let help =
                "Most slots that max_connections leaves room for. When a pool's max is more, raise max_connections.";
            page.single("slots_by_connections", help, slots)?;
        }
        page.databases(snapshot)?;
        page.templates(snapshot)?;
        let help = "Callers that wait for a database. When it is high, raise `warm`, `spares` or `max` of the pool.";
        page.per_pool(snapshot, "waiting", help, |pool| Counts::of(pool, snapshot).waiting)?;
        let help = "How long the longest of them has waited. When it is high, `pgdibs status` says who holds what.";
        page.per_pool(snapshot, "longest_wait_seconds", help, |pool| longest_wait(pool, snapshot))?;
        let help = "Most slots of the pool. When as many are leased and callers wait, raise `max`.";
        page.per_pool(snapshot, "pool_max", help, |pool| pool.settings.max)?;
        let help = "Databases that stand ready at rest. When many grants waited, raise it.";
        page.per_pool(snapshot, "pool_warm", help, |pool| pool.settings.warm)?;
        let help = "Clones behind the slots at rest. When resets are slow, raise it.";
        page.per_pool(snapshot, "pool_spares", help, |pool| pool.settings.spares)?;
        let sizes = snapshot.templates.iter().filter_map(|template| {
            Some(([("pool", template.pool.as_str()), ("database", template.name.as_str())], template.size_bytes?))
        });
        page.gauge(
            "template_size_bytes",
            "Size of each ready template. When it is high, clones are slow: keep test data small.",
            sizes,
        )
    }
}

/// The name without its unit, which the encoder appends.
fn unit_of(name: &str) -> (&str, Option<Unit>) {
    let units = [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)];
    let found = units.into_iter().find_map(|(suffix, unit)| Some((name.strip_suffix(suffix)?, Some(unit))));
    found.unwrap_or((name, None))
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge<'a, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([(&'a str, &'a str); N], V)>,
    ) -> fmt::Result {
        let (name, unit) = unit_of(name);
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        samples.into_iter().try_for_each(|(labels, value)| metric.encode_family(&labels)?.encode_gauge(&value))
    }

    fn single(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        let (name, unit) = unit_of(name);
        self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?.encode_gauge(&value)
    }

    fn databases(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let samples = snapshot.pools.iter().flat_map(|pool| {
            let counts = Counts::of(pool, snapshot);
            let states = [
                ("ready", counts.ready),
                ("leased", counts.leased),
                ("spare", counts.spare),
                ("creating", counts.creating),
                ("retiring", counts.retiring),
                ("kept", counts.kept),
                ("blocked", counts.blocked),
            ];
            states.map(|(state, count)| ([("pool", pool.name.as_str()), ("state", state)], count))
        });
        let help = "Databases by pool and state. When some are blocked, `pgdibs status` says why and what to do.";
        self.gauge("databases", help, samples)
    }

    fn templates(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let samples = snapshot.pools.iter().flat_map(|pool| {
            TemplateState::ALL.iter().map(move |&state| {
                let is_one = |template: &&Template| template.pool == pool.name && template.state == state;
                let count = snapshot.templates.iter().filter(is_one).count();
                ([("pool", pool.name.as_str()), ("state", state.as_str())], u32::try_from(count).unwrap_or(u32::MAX))
            })
        });
        let help = "Templates by pool and state. When some failed, `pgdibs template log` says why.";
        self.gauge("templates", help, samples)
    }

    fn per_pool<V: EncodeGaugeValue>(
        &mut self,
        snapshot: &Snapshot,
        name: &str,
        help: &str,
        value: impl Fn(&Pool) -> V,
    ) -> fmt::Result {
        self.gauge(name, help, snapshot.pools.iter().map(|pool| ([("pool", pool.name.as_str())], value(pool))))
    }
}
