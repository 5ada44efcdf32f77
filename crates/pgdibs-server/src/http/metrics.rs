//! `GET /metrics`: gauges in Prometheus's text format, computed from one look when somebody asks.

use std::fmt::{Display, Write as _};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use pgdibs_core::backend::Backend;
use pgdibs_core::pool::Pool;
use pgdibs_core::snapshot::Snapshot;

use super::app::App;
use super::pool_responses::{Counts, longest_wait};

/// While the server does not answer, only what the daemon knows by itself; the scrape does not fail.
pub(super) async fn show<W: Backend + 'static>(State(app): State<App<W>>) -> Response {
    let daemon = app.status.daemon();
    let mut page = Page::default();
    page.gauge("pgdibs_info", "The daemon's version.");
    page.sample("pgdibs_info", &[("version", &daemon.version), ("instance", &daemon.instance)], 1);
    page.gauge("pgdibs_uptime_seconds", "Time since the daemon started.");
    page.sample("pgdibs_uptime_seconds", &[], daemon.uptime.as_secs_f64());
    page.gauge("pgdibs_reconciling", "Whether this daemon is the one that carries out steps.");
    page.sample("pgdibs_reconciling", &[], u8::from(daemon.reconciling));
    page.gauge("pgdibs_ready", "Whether /readyz answers 200.");
    page.sample("pgdibs_ready", &[], u8::from(app.status.unready().is_empty()));
    let service = app.stage.borrow().clone();
    let snapshot = match service {
        Some(service) => service.backend.gather().await.ok(),
        None => None,
    };
    page.gauge("pgdibs_server_reachable", "Whether the Postgres server answered just now.");
    page.sample("pgdibs_server_reachable", &[], u8::from(snapshot.is_some()));
    if let Some(snapshot) = snapshot {
        page.limits(&snapshot);
        page.pools(&snapshot);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.text).into_response()
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn gauge(&mut self, name: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }

    fn limits(&mut self, snapshot: &Snapshot) {
        if let Some(bytes) = snapshot.limits.free_disk_bytes {
            self.gauge("pgdibs_free_disk_bytes", "Free space where the clones are written.");
            self.sample("pgdibs_free_disk_bytes", &[], bytes);
        }
        self.gauge("pgdibs_disk_floor_bytes", "No clone is made below this much free space.");
        self.sample("pgdibs_disk_floor_bytes", &[], snapshot.limits.disk_floor_bytes);
        if let Some(slots) = snapshot.limits.slots_by_connections {
            self.gauge("pgdibs_slots_by_connections", "Most slots that max_connections leaves room for.");
            self.sample("pgdibs_slots_by_connections", &[], slots);
        }
    }

    fn pools(&mut self, snapshot: &Snapshot) {
        self.gauge("pgdibs_databases", "Databases by pool and state.");
        for pool in &snapshot.pools {
            let counts = Counts::of(pool, snapshot);
            for (state, count) in [
                ("ready", counts.ready),
                ("leased", counts.leased),
                ("spare", counts.spare),
                ("creating", counts.creating),
                ("retiring", counts.retiring),
                ("kept", counts.kept),
                ("blocked", counts.blocked),
            ] {
                self.sample("pgdibs_databases", &[("pool", pool.name.as_str()), ("state", state)], count);
            }
        }
        let waiting = |pool: &Pool| snapshot.tickets.iter().filter(|ticket| ticket.pool == pool.name).count();
        self.per_pool(snapshot, "pgdibs_waiting", "Callers that wait for a database.", waiting);
        let longest = |pool: &Pool| longest_wait(pool, snapshot);
        self.per_pool(snapshot, "pgdibs_longest_wait_seconds", "How long the longest of them has waited.", longest);
        self.per_pool(snapshot, "pgdibs_pool_max", "Most slots of the pool.", |pool| pool.settings.max);
        self.per_pool(snapshot, "pgdibs_pool_warm", "Databases that stand ready at rest.", |pool| pool.settings.warm);
        self.per_pool(snapshot, "pgdibs_pool_spares", "Clones behind the slots at rest.", |pool| pool.settings.spares);
        self.gauge("pgdibs_template_size_bytes", "Size of each ready template.");
        for template in &snapshot.templates {
            if let Some(bytes) = template.size_bytes {
                let labels = [("pool", template.pool.as_str()), ("database", template.name.as_str())];
                self.sample("pgdibs_template_size_bytes", &labels, bytes);
            }
        }
    }

    fn per_pool<V: Display>(&mut self, snapshot: &Snapshot, name: &str, help: &str, value: impl Fn(&Pool) -> V) {
        self.gauge(name, help);
        for pool in &snapshot.pools {
            self.sample(name, &[("pool", pool.name.as_str())], value(pool));
        }
    }
}

/// A label's value: backslash, quote and line feed are escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
