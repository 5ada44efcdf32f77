//! `pgdibs template export` and `import`: a template as a file, for daemons on other servers.

mod connection;
mod export;
mod file;
mod import;

pub(super) use export::export;
pub(super) use import::import;

use pgdibs::Client;
use pgdibs::api::status::Status;

use super::error::CliError;

/// The major version of the daemon's server.
async fn server_major(client: &Client) -> Result<u32, CliError> {
    let status: Status = client.get("/v1/status").await?.json()?;
    let version = status.server.version.unwrap_or_default();
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| {
        let detail = status.server.detail.unwrap_or_else(|| "it has not answered yet".to_owned());
        CliError::failed(format!("the daemon does not know the version of its server: {detail}"))
    })
}
