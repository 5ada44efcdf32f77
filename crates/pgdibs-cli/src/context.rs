//! The context of every command: its output, the global flags, the configuration and the client for the daemon.

use std::path::PathBuf;
use std::time::Duration;

use super::error::CliError;
use super::output::Output;
use pgdibs::Client;
use pgdibs_server::config::{self, Config, GlobalFlags, HostPort, Loaded, ServeFlags};

/// The port at which a client calls a daemon that listens on port 0, whose real port it does not know.
const DEFAULT_PORT: u16 = 7432;

/// The context of a command.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) output: Output,
    pub(super) global: GlobalFlags,
    /// The URL of `--url` or `PGDIBS_URL`.
    pub(super) url: Option<String>,
}

impl Context {
    /// Loads the configuration, with the daemon's flags.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub(super) fn load(&self, serve: ServeFlags) -> Result<Loaded, CliError> {
        let here = working_directory()?;
        Ok(config::load((&self.global, &serve), config::variables_of_this_process(), &here)?)
    }

    /// Loads the configuration for a command that does not listen, without the rule that a daemon on the network needs a token.
    ///
    /// # Errors
    /// As [`Context::load`].
    pub(super) fn load_for_client(&self, serve: ServeFlags) -> Result<Config, CliError> {
        Ok(self.load(serve.with("insecure_no_token", "true"))?.config)
    }

    /// A client for the daemon of `--url`, or for the one at the configured address. It sends no request.
    ///
    /// # Errors
    /// The configuration or the URL is wrong.
    pub(super) fn client(&self) -> Result<Client, CliError> {
        self.client_with_timeout(None)
    }

    /// The same with the time that an answer may take, in place of the default of 30 s.
    ///
    /// # Errors
    /// As [`Context::client`].
    pub(super) fn client_with_timeout(&self, timeout: Option<Duration>) -> Result<Client, CliError> {
        let config = self.load_for_client(ServeFlags::default())?;
        let url = self.url.clone().unwrap_or_else(|| address_of(&config.listen));
        let builder = Client::builder(url).token(config.token);
        let builder = timeout.into_iter().fold(builder, pgdibs::ClientBuilder::timeout);
        Ok(builder.build()?)
    }
}

/// The working directory.
///
/// # Errors
/// It does not exist.
pub(super) fn working_directory() -> Result<PathBuf, CliError> {
    std::env::current_dir().map_err(|error| {
        CliError::failed(format!("cannot determine the working directory: {error}"))
            .hint("change to a directory that exists")
    })
}

/// The URL at which this machine reaches a daemon that listens on `listen`.
pub(super) fn address_of(listen: &HostPort) -> String {
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
    fn client_calls_address_that_daemon_listens_on() {
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
