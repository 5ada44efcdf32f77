//! The log: text on a terminal, JSON otherwise, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Sets up the log. The configuration has already refused a wrong filter.
pub(super) fn init(filter: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(format!("{},{filter}", pgdibs_postgres::connect::LOG_FILTER))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    // The reader of the log may have closed the pipe; to print an error about that on the same pipe would panic.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let builder = builder.with_target(false);
    // In tests, a second daemon of a process uses the log of the first.
    let _ = if json { builder.json().flatten_event(true).try_init() } else { builder.with_ansi(colours()).try_init() };
}

fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
