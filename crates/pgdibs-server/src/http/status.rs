//! `GET /v1/status`: everything one page needs, from one snapshot.

use axum::Json;
use axum::extract::State;
use pgdibs_api::lease::Lease;
use pgdibs_api::run::RunStatus;
use pgdibs_api::status::{Address, Limits, Server, Status, Waiter};
use pgdibs_api::time::rfc3339;
use pgdibs_core::backend::Backend;
use pgdibs_core::plan::{large, locks};
use pgdibs_core::snapshot::{Snapshot, Ticket};

use super::app::App;
use super::status_source::StatusSource;
use super::{databases, pools};
use crate::events::now;
use crate::service::Service;

/// Everything one page needs.
// While the server does not answer it says so, and shows no pools; it is requested most when that happens.
#[utoipa::path(get, path = "/v1/status", operation_id = "status", responses(
    (status = 200, description = "The status.", body = Status),
))]
pub(super) async fn show<B: Backend + 'static>(service: Service<B>, State(app): State<App<B>>) -> Json<Status> {
    Json(current(Some(&service), &*app.status).await)
}

/// The status at this moment. Without a service, because the daemon is starting: what it knows without the server, and why it is not up.
pub(super) async fn current<B: Backend + 'static>(service: Option<&Service<B>>, status: &dyn StatusSource) -> Status {
    let snapshot = match service {
        Some(service) => service.snapshot().await.map_err(|error| error.to_string()),
        None => Err(status.unready().join("; ")),
    };
    let (snapshot, detail) = match snapshot {
        Ok(snapshot) => (snapshot, None),
        Err(error) => (Snapshot { taken_at: now(), ..Snapshot::default() }, Some(error)),
    };
    let addresses = service.into_iter().flat_map(|service| service.addresses());
    let addresses = addresses.map(|(name, to)| (name.clone(), Address { host: to.host.clone(), port: to.port }));
    let server = status.server();
    let limits = &snapshot.limits;
    let too_few_locks = locks::too_few(&snapshot).into_iter().map(|lack| lack.to_string());
    let costly_clones = large::costly(&snapshot).into_iter().map(|costly| costly.to_string());
    Status {
        taken_at: rfc3339(snapshot.taken_at),
        daemon: status.daemon(),
        server: Server {
            version: server.version,
            reachable: detail.is_none(),
            detail,
            addresses: addresses.collect(),
            limits: Limits {
                slots_by_connections: limits.slots_by_connections,
                free_disk_bytes: limits.free_disk_bytes,
                disk_floor_bytes: limits.disk_floor_bytes,
                below_disk_floor: limits.below_disk_floor(),
            },
            orphan_directories: server.orphans.map(|oids| oids.iter().map(|oid| format!("base/{oid}")).collect()),
            warnings: server.warnings.into_iter().chain(too_few_locks).chain(costly_clones).collect(),
        },
        pools: pools::all(&snapshot),
        leases: snapshot.leases.iter().cloned().map(Lease::listed).collect(),
        databases: databases::all(&snapshot),
        waiters: snapshot.tickets.iter().map(|ticket| waiter(ticket, &snapshot)).collect(),
        runs: snapshot.runs.iter().map(RunStatus::from).collect(),
        reconciler: status.reconciler(),
        history: service.map(|service| service.events().history()).unwrap_or_default(),
        findings: server.findings,
    }
}

fn waiter(ticket: &Ticket, snapshot: &Snapshot) -> Waiter {
    Waiter {
        ticket: ticket.id.0,
        pool: ticket.pool.to_string(),
        fingerprint: snapshot.template(ticket.template).map(|template| template.fingerprint.to_string()),
        wants: ticket.kind.into(),
        count: ticket.count,
        run: ticket.holder.run.clone(),
        worker: ticket.holder.worker.clone(),
        holder: ticket.holder.holder.clone(),
        waited_seconds: ticket.waited_seconds,
    }
}
