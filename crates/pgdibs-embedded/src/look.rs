//! A look at the embedded server of a running daemon from another process: for the benchmark, which works beside its daemon.

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;

use super::cluster::SUPERUSER;
use super::error::{EmbeddedError, WhileDoing};
use super::layout::Layout;

/// The superuser's URL of the server in `data_dir`, password included. Only who may read that directory's files gets it.
///
/// # Errors
/// [`EmbeddedError::Io`] when there is no such server, or its files are not ours to read.
pub fn superuser_url(data_dir: &Path) -> Result<SecretString, EmbeddedError> {
    let layout = Layout::of(data_dir)?;
    let read = |path: &Path| std::fs::read_to_string(path).while_doing("read", path);
    let password = read(&layout.password_file())?;
    let port = read(&layout.port_file())?;
    let password = utf8_percent_encode(password.trim(), NON_ALPHANUMERIC);
    Ok(SecretString::from(format!("postgresql://{SUPERUSER}:{password}@127.0.0.1:{}/postgres", port.trim())))
}
