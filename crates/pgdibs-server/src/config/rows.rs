//! Every setting, its value and its origin, for `pgdibs config`. Secrets are masked.

use super::layers::Origin;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRow {
    /// `listen`, `pools.shop.warm`.
    pub setting: String,
    /// As one would write it; `********` for a secret.
    pub value: String,
    /// Shown with `Display`: `flag --listen`, `environment PGDIBS_LISTEN`, `file ./pgdibs.toml line 3`, `default`.
    pub origin: Origin,
}

/// What stands in the place of a secret.
pub const MASK: &str = "********";

/// A connection URL without user, password and parameters, or the mask alone when it is not plain where the secret ends.
pub fn masked_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return MASK.to_owned();
    };
    let (before, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (has_login, address) = match before.rsplit_once('@') {
        Some((_, address)) => (true, address),
        None => (false, before),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/[],%".contains(c);
    let authority = address.split('/').next().unwrap_or_default();
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    let plain_port = has_login || authority.ends_with(']') || port.bytes().all(|digit| digit.is_ascii_digit());
    if !plain_port || parameters.contains('@') || !address.chars().all(plain) {
        return MASK.to_owned();
    }
    let login = if has_login { format!("{MASK}@") } else { String::new() };
    format!("{scheme}://{login}{address}")
}
