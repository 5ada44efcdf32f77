//! Answers about leases and templates. Lists never carry credentials; times are RFC 3339 in UTC, durations seconds.
//!
//! What carries credentials has no `Debug`: it is written to its caller and nowhere else.

use jiff::Timestamp as Instant;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pgdibs_core::lease::{Credentials, Lease, LeaseState};
use pgdibs_core::request::{BuildPlace, Kept};
use pgdibs_core::template::{Template, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use crate::service::Address;

/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A time for people and machines: microseconds, as Postgres counts them.
pub(super) fn rfc3339(at: Timestamp) -> String {
    // Outside jiff's years (-9999 to 9999) only a broken catalog leads; its bounds are then as good as any.
    let at = Instant::from_microsecond(at.0).unwrap_or(if at.0 < 0 { Instant::MIN } else { Instant::MAX });
    format!("{at:.6}")
}

/// `postgresql://user:password@host:port/database`, with `?sslmode=…` where the daemon's own way to the server has it.
pub(super) fn url(credentials: &Credentials, address: &Address, database: &str) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { encoded(&address.host) };
    let query = if address.tls.is_empty() { String::new() } else { format!("?{}", address.tls) };
    format!(
        "postgresql://{}:{}@{host}:{}/{}{query}",
        encoded(&credentials.user),
        encoded(credentials.password.expose_secret()),
        address.port,
        encoded(database)
    )
}

/// A lease without credentials: what lists show.
#[derive(Serialize)]
pub(super) struct LeaseOut {
    id: String,
    state: &'static str,
    pool: String,
    fingerprint: String,
    database: String,
    slot: u32,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    access: Option<Access>,
    run: Option<String>,
    worker: Option<String>,
    alias: String,
    holder: String,
    generation: u32,
    acquired_at: String,
    expires_at: String,
    ended_at: Option<String>,
    ended_reason: Option<String>,
    ttl_seconds: u64,
    renew_after_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_seconds: Option<f64>,
}

#[derive(Serialize)]
struct Access {
    url: String,
    host: String,
    port: u16,
    user: String,
    password: String,
}

impl LeaseOut {
    /// As in a list.
    pub(super) fn listed(lease: Lease) -> Self {
        Self {
            id: lease.id.to_string(),
            state: lease.state.as_str(),
            pool: lease.pool.to_string(),
            fingerprint: lease.fingerprint.to_string(),
            database: lease.database_name,
            slot: lease.slot,
            access: None,
            run: lease.run,
            worker: lease.worker,
            alias: lease.alias,
            holder: lease.holder,
            generation: lease.generation,
            acquired_at: rfc3339(lease.acquired_at),
            expires_at: rfc3339(lease.expires_at),
            ended_at: lease.ended_at.map(rfc3339),
            ended_reason: lease.ended_reason,
            ttl_seconds: lease.ttl_seconds,
            renew_after_seconds: thirds(lease.ttl_seconds),
            waited_seconds: None,
        }
    }

    /// As for its holder: with the way in, as long as it is live.
    pub(super) fn held(mut lease: Lease, address: &Address) -> Self {
        let access = match lease.credentials.take() {
            Some(credentials) if lease.state == LeaseState::Live => Some(Access {
                url: url(&credentials, address, &lease.database_name),
                host: address.host.clone(),
                port: address.port,
                user: credentials.user,
                password: credentials.password.expose_secret().to_owned(),
            }),
            _ => None,
        };
        Self { access, ..Self::listed(lease) }
    }

    /// Says how long the caller waited for it.
    pub(super) fn after(self, waited: std::time::Duration) -> Self {
        Self { waited_seconds: Some(waited.as_secs_f64()), ..self }
    }
}

/// A third of the time to live, in milliseconds' precision: two renewals may get lost.
#[allow(clippy::cast_precision_loss, reason = "at most 3600")]
fn thirds(ttl_seconds: u64) -> f64 {
    (ttl_seconds as f64 * 1000.0 / 3.0).floor() / 1000.0
}

/// A template.
#[derive(Debug, Serialize)]
pub(super) struct TemplateOut {
    pool: String,
    fingerprint: String,
    state: &'static str,
    database: String,
    holder: String,
    since: String,
    built_seconds: Option<f64>,
    size_bytes: Option<u64>,
    strategy: Option<&'static str>,
    measured: Vec<MeasuredOut>,
    built_at: Option<String>,
    last_used_at: String,
    detail: Option<String>,
}

/// How long clones took, by strategy.
#[derive(Debug, Serialize)]
struct MeasuredOut {
    strategy: &'static str,
    clones: u32,
    mean_seconds: f64,
}

impl From<&Template> for TemplateOut {
    fn from(template: &Template) -> Self {
        Self {
            pool: template.pool.to_string(),
            fingerprint: template.fingerprint.to_string(),
            state: template.state.as_str(),
            database: template.name.to_string(),
            holder: template.holder.clone(),
            since: rfc3339(template.build_started_at),
            built_seconds: template.built_seconds,
            size_bytes: template.size_bytes,
            strategy: template.strategy.map(pgdibs_core::pool::Strategy::as_str),
            measured: template
                .measured
                .iter()
                .map(|&(strategy, clones, milliseconds)| MeasuredOut {
                    strategy: strategy.as_str(),
                    clones,
                    mean_seconds: milliseconds / 1000.0,
                })
                .collect(),
            built_at: template.built_at.map(rfc3339),
            last_used_at: rfc3339(template.last_used_at),
            detail: template.detail.clone(),
        }
    }
}

/// "You are the builder".
#[derive(Serialize)]
pub(super) struct BuildOut {
    #[serde(flatten)]
    template: TemplateOut,
    build: BuildPlaceOut,
}

#[derive(Serialize)]
struct BuildPlaceOut {
    token: String,
    url: String,
    host: String,
    port: u16,
    user: String,
    password: String,
    database: String,
    expires_at: String,
}

impl BuildOut {
    pub(super) fn new(template: &Template, place: BuildPlace, token: &SecretString, address: &Address) -> Self {
        Self {
            template: template.into(),
            build: BuildPlaceOut {
                token: token.expose_secret().to_owned(),
                url: url(&place.credentials, address, place.database.as_str()),
                host: address.host.clone(),
                port: address.port,
                user: place.credentials.user,
                password: place.credentials.password.expose_secret().to_owned(),
                database: place.database.to_string(),
                expires_at: rfc3339(place.expires_at),
            },
        }
    }
}

/// What a keep promises.
#[derive(Serialize)]
pub(super) struct KeptOut {
    kept_database: String,
    kept_url: String,
    kept_until: String,
}

impl KeptOut {
    pub(super) fn new(kept: &Kept, address: &Address) -> Self {
        Self {
            kept_database: kept.name.to_string(),
            kept_url: url(&kept.credentials, address, kept.name.as_str()),
            kept_until: rfc3339(kept.until),
        }
    }
}

/// The way into a database.
#[derive(Serialize)]
pub(super) struct CredentialsOut {
    database: String,
    url: String,
    host: String,
    port: u16,
    user: String,
    password: String,
}

impl CredentialsOut {
    pub(super) fn new(credentials: &Credentials, address: &Address, database: String) -> Self {
        Self {
            url: url(credentials, address, &database),
            host: address.host.clone(),
            port: address.port,
            user: credentials.user.clone(),
            password: credentials.password.expose_secret().to_owned(),
            database,
        }
    }
}
