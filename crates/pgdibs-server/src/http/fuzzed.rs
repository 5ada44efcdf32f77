//! What a fuzz target reaches of HTTP: bodies as they are read, hosts as they are judged, and URLs as they are written.

use std::time::Duration;

use pgdibs_api::bounded::{BoundedInteger, Label, WaitSeconds};
use pgdibs_api::database::CredentialsRequest;
use pgdibs_api::lease::{AcquireRequest, BatchLease, BatchRequest, KeepRequest, RenewRequest, ResetRequest};
use pgdibs_api::limits::LONGEST_WAIT;
use pgdibs_api::pool::PoolRequest;
use pgdibs_api::problem::Code;
use pgdibs_api::run::RunRequest;
use pgdibs_api::run_report::RunReportRequest;
use pgdibs_api::template::{AbandonRequest, BuildTokenRequest, TemplateRequest};
use pgdibs_core::lease::Credentials;
use pgdibs_core::name::PoolName;
use pgdibs_core::pool::{PoolPatch, PoolSettings};
use serde::de::DeserializeOwned;

use super::authenticator::Authenticator;
use super::connection_url::url;
use super::extractors::parse;
use crate::service::Address;

/// The first byte chooses the request, the rest is its body. It is refused with a short sentence, or within its bounds.
pub(crate) fn body(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else { return };
    match which % 12 {
        0 => accepted(bytes, |body: PoolRequest| {
            let Ok(pool) = PoolName::parse("fuzzed") else { return };
            if let Ok(settings) = PoolPatch::from(body).apply(&PoolSettings::of(&pool)) {
                assert!(
                    settings.warm <= settings.max && settings.max <= 1000 && settings.spares <= 1000,
                    "{settings:?}"
                );
            }
        }),
        1 => accepted(bytes, |body: TemplateRequest| {
            bounded(body.wait_seconds);
            assert!(body.holder.is_none_or(|holder| plain(holder.as_str())) && body.via.is_none_or(|via| label(&via)));
        }),
        2 => accepted(bytes, |_: BuildTokenRequest| ()),
        3 => accepted(bytes, |body: AbandonRequest| assert!(!body.detail.as_str().contains('\0'))),
        4 => accepted(bytes, |body: AcquireRequest| {
            let (lease, wait) = body.into_batch_lease();
            assert!(wait <= LONGEST_WAIT);
            check(&lease);
        }),
        5 => accepted(bytes, |body: BatchRequest| {
            bounded(body.wait_seconds);
            let leases = body.leases.into_vec();
            assert!((1..=100).contains(&leases.len()));
            leases.iter().for_each(check);
        }),
        6 => accepted(bytes, |body: RenewRequest| {
            assert!(body.ttl_seconds.is_none_or(|ttl| (1..=3600).contains(&ttl.get())));
        }),
        7 => accepted(bytes, |body: ResetRequest| {
            bounded(body.wait_seconds);
            assert!(body.generation.is_none_or(|generation| generation.get() >= 1));
        }),
        8 => accepted(bytes, |body: KeepRequest| {
            assert!(body.seconds.is_none_or(|seconds| (1..=604_800).contains(&seconds.get())));
            assert!(body.reason.is_none_or(|reason| plain(reason.as_str())));
        }),
        9 => accepted(bytes, |body: RunRequest| {
            assert!(body.workers.map_or(1, BoundedInteger::get) <= 1000);
            assert!(body.aliases.map_or(1, BoundedInteger::get) <= 100);
        }),
        10 => accepted(bytes, |body: RunReportRequest| {
            let Ok(run) = Label::new("r") else { return };
            let report = body.into_run_report(run);
            assert!(report.figures.starts_with('{') && plain(&report.holder), "{report:?}");
            assert!(report.inputs.len() <= 1000 && report.inputs.keys().all(|name| plain(name)), "{report:?}");
        }),
        _ => accepted(bytes, |_: CredentialsRequest| ()),
    }
}

fn bounded(wait: Option<WaitSeconds>) {
    assert!(wait.map_or(Duration::ZERO, WaitSeconds::get) <= LONGEST_WAIT);
}

fn label(label: &Label) -> bool {
    !label.as_str().is_empty() && plain(label.as_str())
}

fn accepted<T: DeserializeOwned>(bytes: &[u8], check: impl FnOnce(T)) {
    match parse(bytes) {
        Ok(body) => check(body),
        Err(refused) => {
            assert_eq!(refused.0.code, Code::InvalidRequest);
            let detail = &refused.0.detail;
            assert!(detail.contains(": ") && detail.len() < 4000, "{detail}");
            assert!(!detail.chars().any(char::is_control), "{detail:?}");
        }
    }
}

fn check(lease: &BatchLease) {
    assert!(lease.ttl_seconds.is_none_or(|ttl| (1..=3600).contains(&ttl.get())), "{lease:?}");
    let labels = [&lease.run, &lease.worker, &lease.alias, &lease.via];
    assert!(labels.into_iter().flatten().all(label), "{lease:?}");
    assert!(lease.holder.as_ref().is_none_or(|holder| plain(holder.as_str())), "{lease:?}");
}

fn plain(text: &str) -> bool {
    text.chars().count() <= 200 && !text.chars().any(char::is_control)
}

/// A URL that we write is read back as what went in: host, user, password and database. A host is judged without a panic, and
/// one that names another machine is never allowed.
pub(crate) fn written_urls(user: &str, password: &str, database: &str, host: &str, read: impl Fn(&str, &str)) {
    let credentials = Credentials { user: user.to_owned(), password: password.into() };
    for host in ["127.0.0.1", "::1", "db.example"] {
        let address = Address { host: host.to_owned(), port: 5432, tls: String::new() };
        let written = url(&credentials, &address, database);
        read(&written, host);
    }
    let authenticator = Authenticator { token: None, allowed_hosts: vec!["dibs.example".to_owned()] };
    if authenticator.is_allowed_host(host) {
        let bare =
            host.rsplit_once(':').map_or(host, |(name, port)| if port.parse::<u16>().is_ok() { name } else { host });
        let bare = bare.trim_end_matches(':').trim_end_matches('.').trim_start_matches('[').trim_end_matches(']');
        let loopback = bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
        let named = ["localhost", "dibs.example"].iter().any(|name| bare.eq_ignore_ascii_case(name));
        assert!(loopback || named, "{host:?} was allowed as {bare:?}");
    }
}
