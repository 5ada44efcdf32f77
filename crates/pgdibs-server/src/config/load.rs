//! Loads the configuration: layers, values, and the rules between settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pgdibs_core::name::PoolName;
use secrecy::ExposeSecret as _;
use toml::Value;

use super::address::HostPort;
use super::error::{ConfigError, Origin};
use super::file::{self, File, FileText};
use super::flags::{GlobalFlags, ServeFlags};
use super::layers::{Layers, names_in_file, unknown_key};
use super::pools::{PoolConfig, PoolTable};
use super::rows::{self, ConfigRow};
use super::settings::Config;
use super::variables;

#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// The same for `pgdibs config`, secrets masked.
    pub rows: Vec<ConfigRow>,
    /// Variables that have no effect and secrets that others can read, for the log.
    pub warnings: Vec<String>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

/// `working_directory` is absolute; relative paths in flags and variables start there, those in the file at the file's own directory.
pub fn load(
    (global, serve): (&GlobalFlags, &ServeFlags),
    environment: impl IntoIterator<Item = (String, String)>,
    working_directory: &Path,
) -> Result<Loaded, ConfigError> {
    let environment: BTreeMap<String, String> = environment.into_iter().collect();
    let variable = environment.get("PGDIBS_CONFIG").filter(|path| !path.is_empty());
    let flag = |name: &str| global.get(name).or_else(|| serve.get(name));
    let by_flag = flag("config").map(|path| (path, "flag --config"));
    let by_variable = variable.map(|path| (path.as_str(), "environment PGDIBS_CONFIG"));
    let file = file::read(by_flag.or(by_variable), working_directory)?;
    read(flag, &environment, file.as_ref(), working_directory)
}

/// The same with the text of the file.
pub(super) fn read<'a>(
    flag: impl Fn(&str) -> Option<&'a str>,
    environment: &BTreeMap<String, String>,
    text: Option<&FileText>,
    working_directory: &Path,
) -> Result<Loaded, ConfigError> {
    let file = text.map(File::parse).transpose()?;
    let mut layers = Layers { file: file.as_ref(), values: BTreeMap::new() };
    layers.add(|key| flag(key.name).map(|text| (key.kind.parse(text), Origin::Flag(key.name))))?;
    // A variable that is set but empty counts as unset: compose files and build systems pass unset variables on like that.
    layers.add(|key| {
        let variable = key.variable()?;
        let text = environment.get(&variable).filter(|text| !text.is_empty())?;
        Some((key.kind.parse(text), Origin::Environment(variable)))
    })?;
    if let Some(file) = &file {
        let known = names_in_file(Config::KEYS);
        if let Some(name) = file.values.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(unknown_key(file, &[name]));
        }
        layers.add(|key| Some((file.values.get(key.name)?.clone(), file.origin(&[key.name]))))?;
    }
    layers.add(|key| {
        let default = !key.default.starts_with('(');
        default.then(|| (key.kind.parse(key.default), Origin::Default))
    })?;
    let pools = layers.values.remove("pools").map_or_else(|| toml::Table::new().into(), |(tables, _)| tables);
    let values = layers.values.iter().map(|(name, (value, _))| ((*name).to_owned(), value.clone()));
    let mut config: Config = layers.deserialize(&[], Value::Table(values.collect()))?;
    let file_directory = text.map_or(working_directory, |text| &text.directory);
    let base = |origin: &Origin| match origin {
        Origin::File { .. } => file_directory,
        _ => working_directory,
    };
    let mut warnings = variables::warnings(environment.keys());
    for (secret, name, value, path) in [
        ("token", "token_file", &mut config.token, &config.token_file),
        ("server_url", "server_url_file", &mut config.server_url, &config.server_url_file),
    ] {
        let Some(path) = path else { continue };
        let origin = layers.origin(&[name]);
        let path = base(&origin).join(path);
        let text = read_secret(&path).map_err(|problem| layers.error(&[name], problem))?;
        if others_can_read(&path) {
            let path = path.display();
            warnings.push(format!(
                "{name} ({origin}): every user of this machine can read {path}; take that away with `chmod o-r`"
            ));
        }
        *value = Some(text.clone().into());
        layers.values.insert(secret, (text.into(), origin));
    }
    if let Some((setting, problem)) = broken_rule(&config) {
        return Err(layers.error(&[setting], problem));
    }
    config.allowed_hosts.iter_mut().for_each(|host| host.make_ascii_lowercase());
    for (name, path) in [("data_dir", &mut config.data_dir), ("pg_bin_dir", &mut config.pg_bin_dir)] {
        *path = path.take().map(|path| base(&layers.origin(&[name])).join(path));
    }
    config.pools = read_pools(&layers, pools.clone(), file_directory)?;
    let rows = rows::rows(&layers, &pools);
    Ok(Loaded { config, rows, warnings, file: text.map(|text| text.name.clone()) })
}

fn read_secret(path: &Path) -> Result<String, String> {
    let shown = path.display();
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => {
            Err(format!("{shown} is empty; write the secret into it or leave the setting out"))
        }
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(format!("cannot read {shown}: {error}; correct the path or its permissions")),
    }
}

fn others_can_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
}

/// The first setting that breaks a rule which no type has, and the rule.
fn broken_rule(config: &Config) -> Option<(&'static str, String)> {
    let token = config.token.as_ref().map_or("", |token| token.expose_secret());
    if config.token.is_some() && (token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        let rule = "a token is visible ASCII characters without blanks, since it travels in a header; make one with `openssl rand -hex 24`";
        return Some(("token", rule.to_owned()));
    }
    // What is wrong with the rest of the URL shows when it is used.
    let url = config.server_url.as_ref().map(|url| url.expose_secret());
    if url.is_some_and(|url| !url.starts_with("postgresql://") && !url.starts_with("postgres://")) {
        let rule = "this is not a URL of Postgres; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, special characters of the \
                    password percent-encoded";
        return Some(("server_url", rule.to_owned()));
    }
    if let Some(host) = config.allowed_hosts.iter().find(|host| HostPort::parse(&format!("{host}:0")).is_err()) {
        let rule = "write names alone, without a scheme, port, path or *, such as pgdibs,ci.example.com";
        return Some(("allowed_hosts", format!("`{host}` is not a host name; {rule}")));
    }
    if config.log.trim().is_empty() || tracing_subscriber::EnvFilter::try_new(&config.log).is_err() {
        let rule = "write a level (error, warn, info, debug, trace) or parts with levels (info,pgdibs=debug)";
        return Some(("log", format!("`{}` is not a filter; {rule}", config.log)));
    }
    let open = !config.listen.is_loopback() && config.token.is_none() && !config.insecure_no_token;
    let rule = "can be reached from other machines, and without a token each of them can lease databases; set a token (PGDIBS_TOKEN or \
                PGDIBS_TOKEN_FILE), or pass --insecure-no-token (PGDIBS_INSECURE_NO_TOKEN=true) where every machine around it is trusted";
    open.then(|| ("listen", format!("{} {rule}", config.listen)))
}

/// Variables of this process with our prefix, for [`load`]. Bytes that are no UTF-8 become replacement characters, so that the
/// setting's rule refuses them and a variable of another program does no harm.
pub fn variables_of_this_process() -> Vec<(String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with("PGDIBS_"))
        .collect()
}

/// Reads `[pools]`. Relative paths start at `base`.
fn read_pools(layers: &Layers<'_>, tables: Value, base: &Path) -> Result<Vec<PoolConfig>, ConfigError> {
    let tables: BTreeMap<String, PoolTable> = layers.deserialize(&["pools"], tables)?;
    let pools = tables.into_iter().map(|(name, table)| {
        let parsed = PoolName::parse(&name).map_err(|error| layers.error(&["pools", &name], error.rule))?;
        table.into_config(parsed, base).map_err(|(key, problem)| {
            let path: Vec<&str> = ["pools", name.as_str()].into_iter().chain(key.split_terminator('.')).collect();
            layers.error(&path, problem)
        })
    });
    pools.collect()
}
