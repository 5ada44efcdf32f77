//! Addresses: a host and port to listen on, and those handed out to callers in other networks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// A host (a name or an IP address, without brackets) and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Without brackets, also for IPv6.
    pub host: String,
    /// 0 only where a free port may be chosen.
    pub port: u16,
}

impl HostPort {
    /// Parses `host:port`; IPv6 in brackets.
    ///
    /// # Errors
    /// The rule that is broken, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not an address; write HOST:PORT, an IPv6 address as [::1]:7432");
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once("]:").ok_or_else(form)?;
                if !matches!(host.parse(), Ok(IpAddr::V6(_))) {
                    return Err(form());
                }
                (host, port)
            }
            None => text.rsplit_once(':').ok_or_else(form)?,
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let name = !host.is_empty() && host.chars().all(allowed);
        if !name && !text.starts_with('[') {
            return Err(form());
        }
        if port.is_empty() || !port.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(form());
        }
        let port = port.parse().map_err(|_| format!("port {port} is out of range; ports go from 0 to 65535"))?;
        Ok(Self { host: host.to_owned(), port })
    }

    /// True when nobody on another machine can reach it. A name other than `localhost` may mean anything and counts as reachable.
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

/// The server's addresses as callers see them, apart from the one the daemon uses: `localhost:55432,network=postgres:5432`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertise {
    /// For callers that name no `via`; absent: the address the daemon itself uses.
    pub default: Option<HostPort>,
    /// By the name that a caller gives as `via`.
    pub named: BTreeMap<String, HostPort>,
}

impl Advertise {
    /// Parses the entries. A name is `[a-z][a-z0-9_-]*`; `default` is taken, since that is what `via` says when it says nothing.
    ///
    /// # Errors
    /// The rule that is broken, as the end of a sentence.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut advertise = Self::default();
        for entry in entries {
            let (name, address) = match entry.split_once('=') {
                Some((name, address)) => (Some(name.trim()), address.trim()),
                None => (None, entry.trim()),
            };
            let address = HostPort::parse(address)?;
            if address.port == 0 {
                return Err(format!("`{address}` has port 0; an address that is handed out needs its real port"));
            }
            match name {
                None => match &advertise.default {
                    Some(first) => {
                        return Err(format!(
                            "`{first}` and `{address}` are both without a name; only one can be the default, name the other (network={address})"
                        ));
                    }
                    None => advertise.default = Some(address),
                },
                Some(name) => {
                    let mut letters = name.bytes();
                    let first = letters.next().is_some_and(|c| c.is_ascii_lowercase());
                    let rest =
                        letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'_' | b'-'));
                    if !first || !rest {
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
            }
        }
        Ok(advertise)
    }
}

impl fmt::Display for Advertise {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.named.iter().map(|(name, address)| format!("{name}={address}"));
        let all: Vec<String> = self.default.iter().map(ToString::to_string).chain(named).collect();
        out.write_str(&all.join(","))
    }
}
