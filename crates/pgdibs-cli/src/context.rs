//! What every command has: where to write, the flags of all commands, the configuration and the daemon they lead to.

use std::path::PathBuf;

use super::error::CliError;
use super::output::Output;
use pgdibs::Client;
use pgdibs_server::config::{self, Config, GlobalFlags, HostPort, Loaded, ServeFlags};

/// Where a client looks for a daemon whose own port is not known beforehand.
const DEFAULT_PORT: u16 = 7432;

/// What every command has.
#[derive(Debug)]
pub(super) struct Context {
    /// Where to write.
    pub(super) output: Output,
    /// The flags of all commands.
    pub(super) global: GlobalFlags,
    /// The daemon that the user named, by flag or variable.
    pub(super) url: Option<String>,
}

impl Context {
    /// The configuration with the daemon's own flags.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn load(&self, serve: ServeFlags) -> Result<Loaded, CliError> {
        let here = working_directory()?;
        Ok(config::load((&self.global, &serve), config::variables_of_this_process(), &here)?)
    }

    /// The configuration for a command that does not listen itself, so that no rule about listening stands in its way.
    ///
    /// # Errors
    /// As [`Context::load`].
    pub(super) fn load_for_client(&self, serve: ServeFlags) -> Result<Config, CliError> {
        Ok(self.load(serve.with("insecure_no_token", "true"))?.config)
    }

    /// The daemon that the user named, or the one that the configuration makes listen.
    ///
    /// # Errors
    /// When the configuration or the address is wrong. Nobody has been called yet.
    pub(super) fn client(&self) -> Result<Client, CliError> {
        let config = self.load_for_client(ServeFlags::default())?;
        let url = self.url.clone().unwrap_or_else(|| address_of(&config.listen));
        Ok(Client::builder(url).token(config.token).build()?)
    }
}

/// Where the process stands.
///
/// # Errors
/// When that directory is gone.
pub(super) fn working_directory() -> Result<PathBuf, CliError> {
    std::env::current_dir().map_err(|error| {
        CliError::failed(format!("cannot tell the working directory: {error}")).hint("change to one that exists")
    })
}

/// Where a daemon that listens there is reached from this machine.
fn address_of(listen: &HostPort) -> String {
    let host = match listen.host.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let port = if listen.port == 0 { DEFAULT_PORT } else { listen.port };
    format!("http://{}", HostPort { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_called_where_the_configuration_makes_it_listen() {
        for (listen, url) in [
            ("127.0.0.1:7432", "http://127.0.0.1:7432"),
            ("0.0.0.0:9000", "http://127.0.0.1:9000"),
            ("[::]:9000", "http://[::1]:9000"),
            ("localhost:0", "http://localhost:7432"),
            ("pgdibs.internal:80", "http://pgdibs.internal:80"),
        ] {
            assert_eq!(address_of(&HostPort::parse(listen).unwrap()), url);
        }
    }
}
