//! Why the benchmark gives no report.

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The daemon could not be started, or ended early.
    #[error("the benchmark's daemon {0}")]
    Daemon(String),
    /// A call did not answer as the API says.
    #[error("the benchmark's daemon answered {0}")]
    Answer(String),
    /// A call to it failed.
    #[error("the benchmark's daemon: {0}")]
    Call(#[from] pgdibs::Error),
    /// Postgres refused something.
    #[error("the benchmark's server refused {doing}: {source}")]
    Postgres {
        /// What was being done.
        doing: &'static str,
        /// Why not, in Postgres's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was handed out is not what was promised.
    #[error("pgdibs broke a promise under the benchmark: {0}")]
    Broken(String),
}

/// Names what was being done when Postgres refused.
pub(crate) fn while_doing<T, E: std::error::Error + Send + Sync + 'static>(
    doing: &'static str,
    result: Result<T, E>,
) -> Result<T, BenchError> {
    result.map_err(|source| BenchError::Postgres { doing, source: Box::new(source) })
}
