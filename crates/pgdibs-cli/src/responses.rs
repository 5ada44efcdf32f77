//! What the daemon's JSON looks like to us. Lenient when reading: unknown fields are skipped, missing ones have a default.
//! What may carry credentials has no `Debug`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// How many databases of a pool are in which state, and who waits.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    pub(super) ready: u64,
    pub(super) leased: u64,
    pub(super) spare: u64,
    pub(super) creating: u64,
    pub(super) retiring: u64,
    pub(super) kept: u64,
    pub(super) blocked: u64,
    pub(super) waiting: u64,
}

/// A pool.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pool {
    pub(super) pool: String,
    pub(super) warm: u64,
    pub(super) max: u64,
    pub(super) spares: u64,
    pub(super) counts: Counts,
    pub(super) longest_wait_seconds: f64,
    pub(super) templates: Vec<Template>,
    pub(super) blocked: Vec<Blocked>,
}

/// A database that could not be worked on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Blocked {
    pub(super) database: String,
    pub(super) reason: Option<String>,
    pub(super) last_error: Option<String>,
}

/// A template.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Template {
    pub(super) fingerprint: String,
    pub(super) state: String,
    pub(super) database: Option<String>,
    pub(super) built_seconds: Option<f64>,
    pub(super) size_bytes: Option<u64>,
    pub(super) strategy: Option<String>,
    pub(super) last_used_at: Option<String>,
    /// Who builds it.
    pub(super) holder: Option<String>,
    /// Why it failed.
    pub(super) detail: Option<String>,
}

/// A lease; without credentials where it comes from a list.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Lease {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) pool: String,
    pub(super) database: String,
    pub(super) slot: Option<u64>,
    pub(super) url: Option<String>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) worker: Option<String>,
    pub(super) alias: Option<String>,
    pub(super) holder: Option<String>,
    pub(super) generation: Option<u64>,
    pub(super) acquired_at: Option<String>,
    pub(super) ttl_seconds: Option<f64>,
    pub(super) renew_after_seconds: Option<f64>,
}

/// `POST /v1/leases/batch`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Leases {
    pub(super) leases: Vec<Lease>,
}

/// `GET /v1/pools`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pools {
    pub(super) pools: Vec<Pool>,
}

/// A database of ours, from `GET /v1/databases`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Database {
    pub(super) database: String,
    pub(super) state: String,
}

/// `GET /v1/databases`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Databases {
    pub(super) databases: Vec<Database>,
}

/// Where a database is and how to get in: a lease, or `POST /v1/databases/{database}/credentials`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Credentials {
    pub(super) url: String,
}

/// An address of the server as callers see it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// The managed server, from `GET /v1/status`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Server {
    /// `15.18`.
    pub(super) version: Option<String>,
    /// By name; `default` for callers that name none.
    pub(super) addresses: BTreeMap<String, Address>,
    /// It answers.
    pub(super) reachable: Option<bool>,
    /// What is wrong with it.
    pub(super) detail: Option<String>,
    /// What people should know about it.
    pub(super) warnings: Vec<String>,
}

/// The daemon itself, from `GET /v1/status`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Daemon {
    pub(super) version: String,
    /// Why it is not ready, if it is not.
    pub(super) reasons: Vec<String>,
}

/// `GET /v1/status`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) daemon: Daemon,
    pub(super) server: Server,
    pub(super) pools: Vec<Pool>,
    pub(super) leases: Vec<Lease>,
}

/// `PUT /v1/pools/{pool}/templates/{fingerprint}` when we are the builder.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Build {
    pub(super) token: String,
    pub(super) url: String,
}

/// `POST /v1/leases/{id}/keep`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    pub(super) kept_database: String,
    pub(super) kept_url: Option<String>,
    pub(super) kept_until: Option<String>,
}

/// RFC 9457.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    pub(super) title: String,
    pub(super) detail: String,
    pub(super) code: String,
    /// Of a probe, which is no problem document.
    pub(super) reasons: Vec<String>,
}
