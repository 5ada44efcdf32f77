//! Every setting, its value and its origin, for `pgdibs config`. Secrets are masked.

use toml::Value;

use super::error::Origin;
use super::layers::Layers;
use super::pools::PoolTable;
use super::settings::Config;
use super::table::Scope;
use super::types::Kind;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRow {
    /// `listen`, `pools.shop.warm`.
    pub setting: String,
    /// As a user would write it; `********` for a secret.
    pub value: String,
    pub origin: Origin,
}

pub const MASK: &str = "********";

/// The settings in the order of their declaration, then the pools. serde has read all of them.
pub fn rows(layers: &Layers<'_>, pools: &Value) -> Vec<ConfigRow> {
    let row = |path: &[&str], value: String| ConfigRow { setting: path.join("."), value, origin: layers.origin(path) };
    let settings = Config::KEYS.iter().filter(|key| key.scope != Scope::FileOnly).map(|key| {
        let value = match (layers.values.get(key.name), key.kind) {
            (None, _) => key.default.to_owned(),
            (Some((Value::String(url), _)), Kind::Secret) if key.name == "server_url" => masked_url(url),
            (Some(_), Kind::Secret) => MASK.to_owned(),
            (Some((value, _)), _) => text_of(value),
        };
        row(&[key.name], value)
    });
    let mut rows: Vec<ConfigRow> = settings.collect();
    for (pool, table) in pools.as_table().into_iter().flatten() {
        for key in PoolTable::KEYS {
            let path = ["pools", pool, key.name];
            match table.get(key.name) {
                Some(Value::Table(source)) => {
                    rows.extend(source.iter().map(|(name, value)| row(&[&path[..], &[name]].concat(), text_of(value))));
                }
                Some(value) => rows.push(row(&path, text_of(value))),
                None if key.name == "source" => {}
                None => {
                    let value = format!("{} (an existing pool keeps its own)", key.default.replace("NAME", pool));
                    rows.push(ConfigRow { origin: Origin::Default, ..row(&path, value) });
                }
            }
        }
    }
    rows
}

/// As a user would write it in a variable. For a table only its keys, since the values of a build's variables may be secrets.
fn text_of(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        // An array has no secrets; a table in it is an extension with its schema.
        Value::Array(values) => {
            let one = |value: &Value| if value.is_table() { value.to_string() } else { text_of(value) };
            values.iter().map(one).collect::<Vec<_>>().join(",")
        }
        Value::Table(table) => table.keys().cloned().collect::<Vec<_>>().join(","),
        value => value.to_string(),
    };
    if text.is_empty() { "(none)".to_owned() } else { text }
}

/// A connection URL without user, password and parameters; only the mask if it is unclear where the secret ends.
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
