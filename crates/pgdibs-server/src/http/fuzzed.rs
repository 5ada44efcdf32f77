//! What a fuzz target may reach of the edge: bodies as they are read, hosts as they are judged, and URLs as they are written.

use pgdibs_core::lease::Credentials;
use pgdibs_core::name::PoolName;
use pgdibs_core::pool::PoolSettings;
use serde::de::DeserializeOwned;

use super::authenticator::Authenticator;
use super::extract::{
    AbandonBody, AcquireRequest, BatchBody, BuildTokenBody, KeepBody, LeaseBody, NoBody, PoolBody, RenewBody,
    ResetBody, RunBody, TemplateBody,
};
use super::json::parse;
use super::problem::Code;
use super::responses::url;
use crate::service::{Address, LONGEST_WAIT};

/// The first byte chooses the request, the rest is its body. It is refused with a short sentence, or within its bounds.
pub(crate) fn body(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else { return };
    match which % 11 {
        0 => accepted(bytes, |body: PoolBody| {
            let Ok(pool) = PoolName::parse("fuzzed") else { return };
            if let Ok(settings) = body.patch().apply(&PoolSettings::of(&pool)) {
                assert!(
                    settings.warm <= settings.max && settings.max <= 1000 && settings.spares <= 1000,
                    "{settings:?}"
                );
            }
        }),
        1 => accepted(bytes, |body: TemplateBody| {
            assert!(body.wait() <= LONGEST_WAIT && plain(body.holder()) && plain(body.via()));
        }),
        2 => accepted(bytes, |_: BuildTokenBody| ()),
        3 => accepted(bytes, |body: AbandonBody| assert!(!body.detail.0.contains('\0'))),
        4 => accepted(bytes, |body: LeaseBody| {
            assert!(body.wait() <= LONGEST_WAIT);
            acquire_request(&body.acquire_request());
        }),
        5 => accepted(bytes, |body: BatchBody| {
            assert!(body.wait() <= LONGEST_WAIT);
            let acquire_requests = body.acquire_requests();
            assert!((1..=100).contains(&acquire_requests.len()));
            acquire_requests.iter().for_each(acquire_request);
        }),
        6 => accepted(bytes, |body: RenewBody| assert!(body.ttl_seconds().is_none_or(|ttl| (1..=3600).contains(&ttl)))),
        7 => accepted(bytes, |body: ResetBody| {
            assert!(body.wait() <= LONGEST_WAIT && body.generation().is_none_or(|generation| generation >= 1));
        }),
        8 => accepted(bytes, |body: KeepBody| {
            assert!((1..=604_800).contains(&body.seconds()) && plain(body.reason()));
        }),
        9 => accepted(bytes, |body: RunBody| {
            assert!((1..=1000).contains(&body.workers()) && (1..=100).contains(&body.aliases()));
        }),
        _ => accepted(bytes, |_: NoBody| ()),
    }
}

fn accepted<T: DeserializeOwned>(bytes: &[u8], look: impl FnOnce(T)) {
    match parse(bytes) {
        Ok(body) => look(body),
        Err(refused) => {
            assert_eq!(refused.code, Code::InvalidRequest);
            let detail = &refused.detail;
            assert!(detail.contains(": ") && detail.len() < 4000, "{detail}");
            assert!(!detail.chars().any(char::is_control), "{detail:?}");
        }
    }
}

fn acquire_request(acquire_request: &AcquireRequest) {
    let extract = &acquire_request.acquire;
    assert!((1..=3600).contains(&extract.ttl_seconds), "{extract:?}");
    let texts = [&extract.run, &extract.worker].into_iter().flatten();
    assert!(
        texts.chain([&extract.alias, &extract.holder, &acquire_request.via]).all(|text| plain(text)),
        "{extract:?}"
    );
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
    if authenticator.allows_host(host) {
        let bare =
            host.rsplit_once(':').map_or(host, |(name, port)| if port.parse::<u16>().is_ok() { name } else { host });
        let bare = bare.trim_end_matches(':').trim_end_matches('.').trim_start_matches('[').trim_end_matches(']');
        let loopback = bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
        let named = ["localhost", "dibs.example"].iter().any(|name| bare.eq_ignore_ascii_case(name));
        assert!(loopback || named, "{host:?} was let in as {bare:?}");
    }
}
