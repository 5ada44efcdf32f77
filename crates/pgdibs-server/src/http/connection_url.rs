//! The URLs and credentials that leases, builds and kept databases are answered with.

#[cfg(test)]
mod tests;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pgdibs_api::lease::Access;
use pgdibs_core::lease::Credentials;
use secrecy::ExposeSecret as _;

use crate::service::Address;

/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `postgresql://user:password@host:port/database`, with `?sslmode=…` where the daemon's own connection has it. For a socket
/// `postgresql://user:password@/database?host=/directory&port=port`, which more drivers read than an encoded directory in place of the host.
pub(super) fn url(credentials: &Credentials, address: &Address, database: &str) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    if address.host.starts_with('/') {
        let tls = if address.tls.is_empty() { String::new() } else { format!("&{}", address.tls) };
        return format!(
            "postgresql://{}:{}@/{}?host={}&port={}{tls}",
            encoded(&credentials.user),
            encoded(credentials.password.expose_secret()),
            encoded(database),
            encoded(&address.host),
            address.port
        );
    }
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

pub(super) fn access(credentials: Credentials, address: &Address, database: &str) -> Access {
    Access {
        url: url(&credentials, address, database),
        host: address.host.clone(),
        port: address.port,
        password: credentials.password.expose_secret().to_owned(),
        user: credentials.user,
    }
}
