//! `GET /v1/status`: everything one page needs, in one look.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use pgdibs_core::backend::Backend;
use pgdibs_core::plan::locks;
use pgdibs_core::snapshot::Snapshot;
use serde::Serialize;

use super::app::{App, Up};
use super::pool_responses::{DatabaseOut, PoolOut, RunOut, WaiterOut};
use super::problem::Problem;
use super::responses::{LeaseOut, rfc3339};
use super::status_source::{DaemonStatus, ReconcilerStatus};

#[derive(Serialize)]
pub(super) struct StatusOut {
    daemon: DaemonOut,
    server: ServerOut,
    pools: Vec<PoolOut>,
    leases: Vec<LeaseOut>,
    databases: Vec<DatabaseOut>,
    waiters: Vec<WaiterOut>,
    runs: Vec<RunOut>,
    reconciler: ReconcilerOut,
}

#[derive(Serialize)]
struct DaemonOut {
    version: String,
    instance: String,
    started_at: String,
    uptime_seconds: f64,
    reconciling: bool,
    ready: bool,
    reasons: Vec<String>,
}

#[derive(Serialize)]
struct ServerOut {
    version: Option<String>,
    reachable: bool,
    detail: Option<String>,
    addresses: BTreeMap<String, AddressOut>,
    limits: LimitsOut,
    orphan_directories: Option<Vec<String>>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct AddressOut {
    host: String,
    port: u16,
}

#[derive(Serialize)]
struct LimitsOut {
    slots_by_connections: Option<u32>,
    free_disk_bytes: Option<u64>,
    disk_floor_bytes: u64,
    below_disk_floor: bool,
}

#[derive(Serialize)]
struct ReconcilerOut {
    planned_at: Option<String>,
    plan: Vec<String>,
    report: Vec<ReportOut>,
}

#[derive(Serialize)]
struct ReportOut {
    step: String,
    took_seconds: f64,
    error: Option<String>,
}

/// `GET /v1/status`. While the server does not answer it says so, and shows no pools; it is asked for most when that happens.
pub(super) async fn show<W: Backend + 'static>(
    Up(service): Up<W>,
    State(app): State<App<W>>,
) -> Result<Json<StatusOut>, Problem> {
    let (snapshot, detail) = match service.backend.gather().await {
        Ok(snapshot) => (snapshot, None),
        Err(error) => (Snapshot::default(), Some(error.to_string())),
    };
    let addresses = service
        .addresses
        .iter()
        .map(|(name, at)| (name.clone(), AddressOut { host: at.host.clone(), port: at.port }))
        .collect();
    let server = app.status.server();
    let limits = &snapshot.limits;
    let too_few_locks = locks::too_few(&snapshot).into_iter().map(|lack| lack.to_string());
    Ok(Json(StatusOut {
        daemon: daemon(app.status.daemon(), app.status.unready()),
        server: ServerOut {
            version: server.version,
            reachable: detail.is_none(),
            detail,
            addresses,
            limits: LimitsOut {
                slots_by_connections: limits.slots_by_connections,
                free_disk_bytes: limits.free_disk_bytes,
                disk_floor_bytes: limits.disk_floor_bytes,
                below_disk_floor: limits.below_disk_floor(),
            },
            orphan_directories: server.orphans.map(|oids| oids.iter().map(|oid| format!("base/{oid}")).collect()),
            warnings: server.warnings.into_iter().chain(too_few_locks).collect(),
        },
        pools: snapshot.pools.iter().map(|pool| PoolOut::new(pool, &snapshot)).collect(),
        leases: snapshot.leases.iter().cloned().map(LeaseOut::listed).collect(),
        databases: snapshot.databases.iter().map(|database| DatabaseOut::new(database, &snapshot)).collect(),
        waiters: snapshot.tickets.iter().map(|ticket| WaiterOut::new(ticket, &snapshot)).collect(),
        runs: snapshot.runs.iter().map(RunOut::from).collect(),
        reconciler: reconciler(app.status.reconciler()),
    }))
}

fn daemon(status: DaemonStatus, reasons: Vec<String>) -> DaemonOut {
    DaemonOut {
        version: status.version,
        instance: status.instance,
        started_at: rfc3339(status.started_at),
        uptime_seconds: status.uptime.as_secs_f64(),
        reconciling: status.reconciling,
        ready: reasons.is_empty(),
        reasons,
    }
}

fn reconciler(status: ReconcilerStatus) -> ReconcilerOut {
    ReconcilerOut {
        planned_at: status.planned_at.map(rfc3339),
        plan: status.plan,
        report: status
            .report
            .into_iter()
            .map(|line| ReportOut { step: line.step, took_seconds: line.took.as_secs_f64(), error: line.error })
            .collect(),
    }
}
