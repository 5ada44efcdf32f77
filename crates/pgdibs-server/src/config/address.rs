//! Addresses: a host and port to listen on, and those handed out to callers in other networks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::Deserialize;

use super::types::{SettingType, StringList};

/// A host (a name or an IP address, without brackets) and a port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPort {
    /// Without brackets, also for IPv6.
    pub host: String,
    /// 0 only where a free port may be chosen.
    pub port: u16,
}

impl SettingType for HostPort {}

impl TryFrom<String> for HostPort {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl HostPort {
    /// Parses `host:port`; IPv6 in brackets. The error is the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not an address; write HOST:PORT, an IPv6 address as [::1]:7432");
        let (written, port) = text.rsplit_once(':').ok_or_else(form)?;
        let bracketed = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = bracketed.unwrap_or(written);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let valid = match bracketed {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(allowed),
        };
        if !valid || port.is_empty() || !port.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(form());
        }
        let port = port.parse().map_err(|_| format!("port {port} is out of range; ports go from 0 to 65535"))?;
        Ok(Self { host: host.to_owned(), port })
    }

    /// Whether only this machine can reach it. A name other than `localhost` may mean any address.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => address.to_canonical().is_loopback(),
            Ok(IpAddr::V4(address)) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(out, "[{}]:{}", self.host, self.port),
            false => write!(out, "{}:{}", self.host, self.port),
        }
    }
}

/// The server addresses that callers get in place of the daemon's own: `localhost:55432,network=postgres:5432`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "StringList")]
pub struct Advertise {
    /// For callers that name no `via`; absent: the address the daemon itself uses.
    pub default: Option<HostPort>,
    /// By the name that a caller gives as `via`.
    pub named: BTreeMap<String, HostPort>,
}

impl SettingType for Advertise {}

impl TryFrom<StringList> for Advertise {
    type Error = String;

    /// `default` is no name: it is what `via` means when it is absent.
    fn try_from(words: StringList) -> Result<Self, String> {
        let mut advertise = Self::default();
        for entry in Vec::from(words) {
            let (name, address) = entry.split_once('=').unwrap_or(("", &entry));
            let (name, address) = (name.trim(), HostPort::parse(address.trim())?);
            if address.port == 0 {
                return Err(format!("`{address}` has port 0; an address that is handed out needs its real port"));
            }
            if !entry.contains('=') {
                if let Some(first) = advertise.default.replace(address.clone()) {
                    return Err(format!(
                        "`{first}` and `{address}` are both without a name; only one can be the default, name the other (network={address})"
                    ));
                }
                continue;
            }
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
            if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(allowed) {
                return Err(format!(
                    "`{name}` is not a name for an address; a name is a small letter, then small letters, digits, _ or -"
                ));
            }
            if name == "default" {
                return Err(format!("the default address has no name; write `{address}` alone"));
            }
            if advertise.named.insert(name.to_owned(), address).is_some() {
                return Err(format!("the name `{name}` is there twice; give each address its own name"));
            }
        }
        Ok(advertise)
    }
}
