//! What commands do without a daemon: start the embedded server, restore a template, remove everything that pgdibs created on a server.

use pgdibs_embedded::{DEFAULT_MAX_CONNECTIONS, EmbeddedOptions};
pub use pgdibs_embedded::{
    Embedded, EmbeddedError, Processes, Progress, SearchRoots, SupervisorArgs, data_dir, find_client_program,
    find_client_programs, superuser_url, supervise,
};
pub use pgdibs_postgres::connect::ConnectError;
pub use pgdibs_postgres::doctor::{Environment, Examination, Finding, Severity, examine, remove_probes};
use pgdibs_postgres::public_connect::PgProbe;
pub use pgdibs_postgres::purge::{Inventory, inventory, purge};
pub use pgdibs_sources::{BuildTarget, DumpRoles, FileGlob, Matches, TemplateDump, restore};

use crate::config::Config;

/// Starts the embedded server of this configuration, or adopts it. The running program is its supervisor.
///
/// # Errors
/// Whatever [`EmbeddedError`] says.
pub async fn start_embedded(config: &Config, progress: impl FnMut(Progress) + Send) -> Result<Embedded, EmbeddedError> {
    let options = EmbeddedOptions {
        data_dir: config.data_dir.clone(),
        bin_dir: config.pg_bin_dir.clone(),
        listen: config.postgres_listen,
        linger: config.linger_seconds.seconds(),
        max_connections: DEFAULT_MAX_CONNECTIONS,
        supervisor_exe: std::env::current_exe().map_err(EmbeddedError::OwnProgram)?,
    };
    pgdibs_embedded::start(&options, &PgProbe, progress).await
}
