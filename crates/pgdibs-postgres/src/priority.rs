//! The priority of the backends that drop databases, on a server of the daemon's own.

use sqlx::postgres::PgConnection;

/// How much of the processor the backend of a connection gets beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    Normal,
    Low,
}

/// The nice value of a backend of low priority: on a busy processor it gets a third of what another one gets. Not less, because it may
/// hold a lock for which others wait.
const NICE: i32 = 5;

/// Lowers the priority of a connection's backend, for good: only a privileged process may raise it again. A backend that cannot be found, in
/// another container for example, keeps its priority.
pub(crate) async fn lower(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let process: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await?;
    if let Some(pid) = rustix::process::Pid::from_raw(process)
        && let Err(error) = rustix::process::setpriority_process(Some(pid), NICE)
    {
        tracing::debug!(process, %error, "a backend for drops keeps its priority");
    }
    // Linux shares the processor between sessions first (sched(7), autogroup), each backend begins a session of its own, and a nice value
    // counts within a session only. Without autogroups there is no such file.
    if let Err(error) = tokio::fs::write(format!("/proc/{process}/autogroup"), NICE.to_string()).await {
        tracing::debug!(process, %error, "the session of a backend for drops keeps its priority");
    }
    Ok(())
}
