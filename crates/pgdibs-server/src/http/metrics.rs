//! `GET /metrics`: gauges in Prometheus's text format, computed from one snapshot for each scrape.

#[cfg(test)]
mod tests;

use std::fmt;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use pgdibs_api::pool::{Counts, longest_wait};
use pgdibs_api::status::Daemon;
use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::pool::Pool;
use pgdibs_core::snapshot::Snapshot;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::api_error::ApiError;
use super::app::App;

/// Gauges in Prometheus's text format.
// While the server does not answer, what the daemon knows without it; the scrape does not fail.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", responses(
    (status = 200, description = "The gauges.", body = String, content_type = "text/plain"),
))]
pub(super) async fn show<B: Backend + 'static>(State(app): State<App<B>>) -> Result<impl IntoResponse, ApiError> {
    let daemon = app.status.daemon();
    let service = app.stage.borrow().clone();
    let snapshot = match service {
        Some(service) => service.snapshot().await.ok(),
        None => None,
    };
    let mut registry = Registry::with_prefix("pgdibs");
    registry.register_collector(Box::new(Scrape { daemon, snapshot }));
    let mut text = String::new();
    encode_registry(&mut text, &registry).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
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
        page.gauge("info", "The daemon's version.", [(info, 1_u32)])?;
        page.single("uptime_seconds", "Time since the daemon started.", self.daemon.uptime_seconds)?;
        let reconciling = u32::from(self.daemon.reconciling);
        page.single("reconciling", "Whether this daemon is the one that carries out steps.", reconciling)?;
        page.single("ready", "Whether /readyz answers 200.", u32::from(self.daemon.ready))?;
        let reachable = u32::from(self.snapshot.is_some());
        page.single("server_reachable", "Whether the Postgres server answered just now.", reachable)?;
        let Some(snapshot) = &self.snapshot else { return Ok(()) };
        let limits = &snapshot.limits;
        if let Some(bytes) = limits.free_disk_bytes {
            page.single("free_disk_bytes", "Free space where the clones are written.", bytes)?;
        }
        let floor = limits.disk_floor_bytes;
        page.single("disk_floor_bytes", "No clone is made below this much free space.", floor)?;
        if let Some(slots) = limits.slots_by_connections {
            page.single("slots_by_connections", "Most slots that max_connections leaves room for.", slots)?;
        }
        page.databases(snapshot)?;
        page.per_pool(snapshot, "waiting", "Callers that wait for a database.", |pool| {
            Counts::of(pool, snapshot).waiting
        })?;
        let help = "How long the longest of them has waited.";
        page.per_pool(snapshot, "longest_wait_seconds", help, |pool| longest_wait(pool, snapshot))?;
        page.per_pool(snapshot, "pool_max", "Most slots of the pool.", |pool| pool.settings.max)?;
        page.per_pool(snapshot, "pool_warm", "Databases that stand ready at rest.", |pool| pool.settings.warm)?;
        page.per_pool(snapshot, "pool_spares", "Clones behind the slots at rest.", |pool| pool.settings.spares)?;
        let sizes = snapshot.templates.iter().filter_map(|template| {
            Some(([("pool", template.pool.as_str()), ("database", template.name.as_str())], template.size_bytes?))
        });
        page.gauge("template_size_bytes", "Size of each ready template.", sizes)
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge<'a, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([(&'a str, &'a str); N], V)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        samples.into_iter().try_for_each(|(labels, value)| metric.encode_family(&labels)?.encode_gauge(&value))
    }

    fn single(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
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
        self.gauge("databases", "Databases by pool and state.", samples)
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
