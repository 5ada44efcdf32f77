//! From layers to the checked [`Config`]: each setting's own rule, and a row for each.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::address::{Advertise, HostPort};
use super::convert;
use super::error::ConfigError;
use super::layers::{Found, Layer, Layers, Origin};
use super::pools::PoolConfig;
use super::resolved::{Config, LogFormat};
use super::rows::{ConfigRow, MASK, masked_url};
use super::settings::{self, Kind};

/// Looks settings up and remembers what it found, for `pgdibs config`.
pub struct Resolver<'a> {
    layers: &'a Layers,
    working_directory: &'a Path,
    file_directory: &'a Path,
    rows: Vec<ConfigRow>,
    /// Sentences for the log.
    pub warnings: Vec<String>,
}

impl<'a> Resolver<'a> {
    /// The two directories are where relative paths start: in flags and variables, and in the file.
    pub fn new(layers: &'a Layers, working_directory: &'a Path, file_directory: &'a Path) -> Self {
        Self { layers, working_directory, file_directory, rows: Vec::new(), warnings: Vec::new() }
    }

    /// The rows of everything that was looked up, in the order of the table of settings.
    pub fn into_rows(mut self) -> Vec<ConfigRow> {
        let place = |row: &ConfigRow| settings::SETTINGS.iter().position(|setting| setting.name == row.setting);
        self.rows.sort_by_key(place);
        self.rows
    }

    /// Every setting, checked.
    ///
    /// # Errors
    /// The first one that breaks its rule.
    pub fn config(&mut self, pools: Vec<PoolConfig>) -> Result<Config, ConfigError> {
        let token = self.secret("token", "token_file", |_| MASK.to_owned(), check_token)?;
        let (listen, insecure_no_token) = self.listen(token.is_some())?;
        Ok(Config {
            listen,
            token,
            insecure_no_token,
            allowed_hosts: self.allowed_hosts()?,
            server_url: self.secret("server_url", "server_url_file", masked_url, check_url)?,
            advertise: self.advertise()?,
            data_dir: self.path("data_dir")?,
            pg_bin_dir: self.path("pg_bin_dir")?,
            postgres_listen: self.postgres_listen()?,
            max_ttl: self.seconds("max_ttl_seconds")?,
            disk_floor_mb: self.number("disk_floor_mb")?,
            linger: self.seconds("linger_seconds")?,
            build_timeout: self.seconds("build_timeout_seconds")?,
            idle: self.seconds("idle_seconds")?,
            log: self.log()?,
            log_format: self.log_format()?,
            stop_server: self.boolean("stop_server")?.value,
            pools,
        })
    }

    fn row(&mut self, setting: &str, value: String, origin: &Origin) {
        self.rows.push(ConfigRow { setting: setting.to_owned(), value, origin: origin.clone() });
    }

    fn absent(&mut self, setting: &str) {
        let absent = settings::find(setting).map_or("", |setting| setting.absent);
        self.row(setting, absent.to_owned(), &Origin::Default);
    }

    fn text(&mut self, name: &'static str) -> Result<Option<Found<String>>, ConfigError> {
        let found = self.layers.highest(name).map(|found| convert::text(name, found)).transpose()?;
        match &found {
            Some(found) => self.row(name, found.value.clone(), &found.origin),
            None => self.absent(name),
        }
        Ok(found)
    }

    fn path(&mut self, name: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        Ok(self.text(name)?.map(|found| self.absolute(&found)))
    }

    fn absolute(&self, found: &Found<String>) -> PathBuf {
        match found.origin {
            Origin::File { .. } => self.file_directory.join(&found.value),
            _ => self.working_directory.join(&found.value),
        }
    }

    fn number(&mut self, name: &'static str) -> Result<u64, ConfigError> {
        let Some(Kind::Number(low, high)) = settings::find(name).map(|setting| setting.kind) else {
            return Ok(0);
        };
        let Some(found) = self.layers.highest(name) else {
            return Ok(0);
        };
        let found = convert::number(name, found, low, high)?;
        self.row(name, found.value.to_string(), &found.origin);
        Ok(found.value.unsigned_abs())
    }

    fn seconds(&mut self, name: &'static str) -> Result<Duration, ConfigError> {
        self.number(name).map(Duration::from_secs)
    }

    fn boolean(&mut self, name: &'static str) -> Result<Found<bool>, ConfigError> {
        let Some(found) = self.layers.highest(name) else {
            return Ok(Found { value: false, origin: Origin::Default });
        };
        let found = convert::boolean(name, found)?;
        self.row(name, found.value.to_string(), &found.origin);
        Ok(found)
    }

    fn list(&mut self, name: &'static str) -> Result<Found<Vec<String>>, ConfigError> {
        let Some(found) = self.layers.highest(name) else {
            return Ok(Found { value: Vec::new(), origin: Origin::Default });
        };
        let found = convert::list(name, found)?;
        let shown = if found.value.is_empty() { "(none)".to_owned() } else { found.value.join(",") };
        self.row(name, shown, &found.origin);
        Ok(found)
    }

    /// A secret from the highest layer that has it or the name of its file.
    fn secret(
        &mut self,
        name: &'static str,
        file_name: &'static str,
        mask: fn(&str) -> String,
        rule: fn(&str) -> Result<(), &'static str>,
    ) -> Result<Option<SecretString>, ConfigError> {
        for layer in Layer::ALL {
            let found = match (self.layers.in_layer(layer, name), self.layers.in_layer(layer, file_name)) {
                (None, None) => continue,
                (Some(_), Some(file)) => {
                    let problem = format!("{name} is given beside it, and only one can count; leave one out");
                    return Err(ConfigError::value(file_name, &file.origin, problem));
                }
                (Some(found), None) => {
                    let found = convert::text(name, found)?;
                    self.absent(file_name);
                    found
                }
                (None, Some(file)) => {
                    let file = convert::text(file_name, file)?;
                    self.row(file_name, file.value.clone(), &file.origin);
                    self.read_secret(file_name, file)?
                }
            };
            rule(&found.value).map_err(|problem| ConfigError::value(name, &found.origin, problem))?;
            self.row(name, mask(&found.value), &found.origin);
            return Ok(Some(SecretString::from(found.value)));
        }
        self.absent(name);
        self.absent(file_name);
        Ok(None)
    }

    fn read_secret(&mut self, file_name: &str, file: Found<String>) -> Result<Found<String>, ConfigError> {
        let path = self.absolute(&file);
        if others_can_read(&path) {
            self.warnings.push(format!(
                "{file_name} ({}): every user of this machine can read {}; take that away with `chmod o-r`",
                file.origin,
                path.display()
            ));
        }
        let refuse = |problem: String| Err(ConfigError::value(file_name, &file.origin, problem));
        match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => {
                refuse(format!("{} is empty; write the secret into it or leave the setting out", path.display()))
            }
            Ok(text) => Ok(Found { value: text.trim().to_owned(), origin: file.origin }),
            Err(error) => {
                refuse(format!("cannot read {}: {error}; correct the path or its permissions", path.display()))
            }
        }
    }

    fn listen(&mut self, has_token: bool) -> Result<(HostPort, bool), ConfigError> {
        let insecure = self.boolean("insecure_no_token")?.value;
        let Some(found) = self.text("listen")? else {
            return Err(ConfigError::value("listen", &Origin::Default, "no address"));
        };
        let listen =
            HostPort::parse(&found.value).map_err(|problem| ConfigError::value("listen", &found.origin, problem))?;
        if !listen.is_loopback() && !has_token && !insecure {
            let problem = format!(
                "{listen} can be reached from other machines, and whoever reaches it gets databases; set a token \
                 (PGDIBS_TOKEN or PGDIBS_TOKEN_FILE), or pass --insecure-no-token (PGDIBS_INSECURE_NO_TOKEN=true) \
                 where every machine around it is trusted"
            );
            return Err(ConfigError::value("listen", &found.origin, problem));
        }
        Ok((listen, insecure))
    }

    fn postgres_listen(&mut self) -> Result<Option<SocketAddr>, ConfigError> {
        let Some(found) = self.text("postgres_listen")? else { return Ok(None) };
        match found.value.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(Some(address)),
            _ => {
                let problem = format!(
                    "`{}` is not an IP address and a port; write 0.0.0.0:5432, an IPv6 address as [::]:5432, or leave it out for \
                     loopback and a port of its own",
                    found.value
                );
                Err(ConfigError::value("postgres_listen", &found.origin, problem))
            }
        }
    }

    fn allowed_hosts(&mut self) -> Result<Vec<String>, ConfigError> {
        let found = self.list("allowed_hosts")?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        for host in &found.value {
            let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let address = bracketed.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
            if !address && !host.chars().all(allowed) {
                let problem = format!(
                    "`{host}` is not a host name; write names alone, without a scheme, port, path or *, such as pgdibs,ci.example.com"
                );
                return Err(ConfigError::value("allowed_hosts", &found.origin, problem));
            }
        }
        Ok(found.value.iter().map(|host| host.to_ascii_lowercase()).collect())
    }

    fn advertise(&mut self) -> Result<Advertise, ConfigError> {
        let found = self.list("advertise")?;
        Advertise::parse(found.value.iter().map(String::as_str))
            .map_err(|problem| ConfigError::value("advertise", &found.origin, problem))
    }

    fn log(&mut self) -> Result<String, ConfigError> {
        let Some(found) = self.text("log")? else {
            return Ok("info".to_owned());
        };
        match tracing_subscriber::EnvFilter::try_new(&found.value) {
            Ok(_) => Ok(found.value),
            Err(_) => {
                let problem = format!(
                    "`{}` is not a filter; write a level (error, warn, info, debug, trace) or parts with levels (info,pgdibs=debug)",
                    found.value
                );
                Err(ConfigError::value("log", &found.origin, problem))
            }
        }
    }

    fn log_format(&mut self) -> Result<LogFormat, ConfigError> {
        let Some(found) = self.text("log_format")? else {
            return Ok(LogFormat::Auto);
        };
        match found.value.as_str() {
            "auto" => Ok(LogFormat::Auto),
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => {
                let problem = format!("`{other}` is not a format; auto, text and json are");
                Err(ConfigError::value("log_format", &found.origin, problem))
            }
        }
    }
}

/// Whether the file's mode lets everybody read it. What cannot be looked at is told by whoever reads it.
fn others_can_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
}

/// It goes into an HTTP header.
fn check_token(token: &str) -> Result<(), &'static str> {
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(
        "a token is visible ASCII characters without blanks, since it travels in a header; make one with `openssl rand -hex 24`",
    )
}

/// The rest of the URL is seen when it is used.
fn check_url(url: &str) -> Result<(), &'static str> {
    if url.starts_with("postgresql://") || url.starts_with("postgres://") {
        return Ok(());
    }
    Err(
        "this is not a URL of Postgres; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, special characters of the password percent-encoded",
    )
}
