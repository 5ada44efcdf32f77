//! Authentication: host, then origin, then token, before any work is done.

#[cfg(test)]
mod tests;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgdibs_api::problem::Code;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;

use super::api_error::ApiError;

/// What a caller must show. Without a token every caller on loopback is authenticated; that the daemon does not listen further
/// without one is checked where the configuration is read.
#[derive(Debug, Clone, Default)]
pub struct Authenticator {
    /// The token, if one is configured.
    pub token: Option<SecretString>,
    /// Host names beside loopback that the daemon answers to (`PGDIBS_ALLOWED_HOSTS`), without ports. `*` is every name,
    /// which gives up the protection against DNS rebinding.
    pub allowed_hosts: Vec<String>,
}

/// Probes need no protection, and a kubelet probes with an address as host name.
pub(super) const PROBES: [&str; 3] = ["/livez", "/readyz", "/healthz"];

/// Whether a probe is authenticated: others are answered less.
#[derive(Debug, Clone, Copy)]
pub(super) struct Authenticated(pub(super) bool);

pub(super) async fn authenticate(
    State(authenticator): State<Arc<Authenticator>>,
    mut request: Request,
    next: Next,
) -> Response {
    match authenticator.check(request.method(), request.uri(), request.headers()) {
        Err(error) if !PROBES.contains(&request.uri().path()) => return error.into_response(),
        result => request.extensions_mut().insert(Authenticated(result.is_ok())),
    };
    next.run(request).await
}

impl Authenticator {
    fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = self.host(uri, headers)?;
        if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            same_site(host, headers)?;
        }
        match &self.token {
            Some(token) => check_token(token, headers),
            None => Ok(()),
        }
    }

    /// The one host that the request names, if it is this daemon's.
    fn host<'a>(&self, uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, ApiError> {
        let mut named = headers.get_all(header::HOST).iter();
        let refused = |text: &str| {
            ApiError::new(
                Code::HostNotAllowed,
                format!(
                    "this daemon does not answer to the host \"{}\"; use a loopback address, or add the name to PGDIBS_ALLOWED_HOSTS",
                    pgdibs_core::name::shown(text)
                ),
            )
        };
        let (Some(first), None) = (named.next(), named.next()) else {
            return Err(ApiError::new(Code::HostNotAllowed, "the request must carry exactly one Host header"));
        };
        let text = first.to_str().map_err(|_| refused("(not ASCII)"))?;
        if !self.is_allowed_host(text) {
            return Err(refused(text));
        }
        // A request line with an authority of its own (`GET http://other/ HTTP/1.1`) must name this daemon as well.
        match uri.authority() {
            Some(authority) if !self.is_allowed_host(authority.as_str()) => Err(refused(authority.as_str())),
            _ => Ok(text),
        }
    }

    pub(super) fn is_allowed_host(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        let name = name.strip_suffix('.').unwrap_or(name);
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        if bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
            || name.eq_ignore_ascii_case("localhost")
        {
            return true;
        }
        self.allowed_hosts.iter().any(|allowed| {
            let allowed = allowed.strip_suffix('.').unwrap_or(allowed);
            allowed.eq_ignore_ascii_case(name) || allowed.eq_ignore_ascii_case(bare)
        })
    }
}

/// The host without its port; `None` for what is no host at all.
fn without_port(host: &str) -> Option<&str> {
    if host.starts_with('[') {
        let end = host.find(']')?;
        let (name, rest) = host.split_at(end + 1);
        return (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)).then_some(name);
    }
    match host.split_once(':') {
        None => (!host.is_empty()).then_some(host),
        Some((name, port)) => (!name.is_empty() && is_port(port)).then_some(name),
    }
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.parse::<u16>().is_ok() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Browsers name the site of a request; one that changes something must come from this daemon's own page or from no page.
fn same_site(host: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    let foreign = |what: &str| {
        ApiError::new(
            Code::ForbiddenOrigin,
            format!(
                "{what} of this request is another site's; requests that change something must come from this daemon's own pages or from no web page"
            ),
        )
    };
    for origin in headers.get_all(header::ORIGIN) {
        if !origin.to_str().is_ok_and(|origin| is_origin_of(origin, host)) {
            return Err(foreign("Origin"));
        }
    }
    for site in headers.get_all("sec-fetch-site") {
        if !matches!(site.as_bytes(), b"same-origin" | b"none") {
            return Err(foreign("Sec-Fetch-Site"));
        }
    }
    Ok(())
}

fn is_origin_of(origin: &str, host: &str) -> bool {
    [("http://", ":80"), ("https://", ":443")].into_iter().any(|(scheme, default_port)| {
        let bare = |text: &str| text.strip_suffix(default_port).unwrap_or(text).to_ascii_lowercase();
        origin.strip_prefix(scheme).is_some_and(|authority| bare(authority) == bare(host))
    })
}

fn check_token(token: &SecretString, headers: &HeaderMap) -> Result<(), ApiError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let shown = match (given.next(), given.next()) {
        (None, _) => None,
        (Some(_), Some(_)) => return Err(unauthorized("there must be one Authorization header, not several")),
        (Some(value), None) => Some(value),
    };
    let Some(shown) = shown else {
        return Err(unauthorized(
            "this daemon wants its token (PGDIBS_TOKEN): `Authorization: Bearer <token>`, or Basic with any user and the token as password",
        ));
    };
    // Hashing first makes the comparison independent of both lengths.
    let wanted = Sha256::digest(token.expose_secret().as_bytes());
    let matches = shown
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .and_then(|(scheme, rest)| secret_of(scheme, rest.trim()))
        .is_some_and(|secret| Sha256::digest(&secret).ct_eq(&wanted).into());
    if matches { Ok(()) } else { Err(unauthorized("the token is wrong; it must be the daemon's PGDIBS_TOKEN")) }
}

fn secret_of(scheme: &str, rest: &str) -> Option<Vec<u8>> {
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = STANDARD.decode(rest).ok()?;
        let colon = decoded.iter().position(|&byte| byte == b':')?;
        return Some(decoded[colon + 1..].to_vec());
    }
    None
}

fn unauthorized(detail: &str) -> ApiError {
    ApiError::new(Code::Unauthorized, detail)
}
