//! SEAM: the four calls into parts that are built beside the command line. Each says here what it shall call and with what.

use std::ffi::OsString;
use std::process::ExitCode;

use super::error::{CliError, FAILED};
use super::output::message;
use crate::config::{Config, Loaded};

/// SEAM: `crate::daemon::serve(loaded.config).await`. `loaded.warnings` have been told already.
pub(super) async fn serve(loaded: Loaded) -> ExitCode {
    drop(loaded);
    message("this build has no daemon");
    ExitCode::from(FAILED)
}

/// SEAM: `pgdibs_postgres::embedded::supervise(arguments)`. No runtime runs yet.
pub(super) fn supervise(arguments: Vec<OsString>) -> ExitCode {
    drop(arguments);
    message("this build has no embedded server");
    ExitCode::from(FAILED)
}

/// SEAM: the URL, with password, of the embedded server of this configuration, which is running.
///
/// # Errors
/// When there is none or it does not run, as a sentence.
pub(super) async fn embedded_url(_config: &Config) -> Result<String, CliError> {
    Err(CliError::failed("this build has no embedded server").hint("name a server with --server-url"))
}

/// SEAM: the daemons that are connected to that server, as `application_name`s; for example
/// `select distinct application_name from pg_stat_activity where application_name like 'pgdibs%'`.
///
/// # Errors
/// When the server cannot be asked, as a sentence.
pub(super) async fn daemons_on(_url: &str) -> Result<Vec<String>, CliError> {
    Err(CliError::failed("this build has no purge"))
}

/// SEAM: `pgdibs_postgres::purge::inventory(url).await`: a line for each thing of ours, in the order in which they would go.
///
/// # Errors
/// When the server cannot be asked, as a sentence.
pub(super) async fn inventory(_url: &str) -> Result<Vec<String>, CliError> {
    Err(CliError::failed("this build has no purge"))
}

/// SEAM: `pgdibs_postgres::purge::purge(url).await`.
///
/// # Errors
/// What could not be taken off, as a sentence.
pub(super) async fn purge(_url: &str) -> Result<(), CliError> {
    Err(CliError::failed("this build has no purge"))
}
