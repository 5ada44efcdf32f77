//! The errors of the benchmark.

#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The daemon could not be started, or exited early.
    #[error("the benchmark's daemon {0}")]
    Daemon(String),
    /// A response is not as the API defines it.
    #[error("the benchmark's daemon answered {0}")]
    Answer(String),
    /// A request failed.
    #[error("the benchmark's daemon: {0}")]
    Call(#[from] pgdibs::Error),
    /// Postgres refused something.
    #[error("the benchmark's server refused {operation}: {source}")]
    Postgres { operation: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    /// A lease is not as pgdibs guarantees.
    #[error("pgdibs broke a guarantee: {0}")]
    Broken(String),
}

/// Adds the operation to an error of Postgres.
pub(crate) fn context<T, E: std::error::Error + Send + Sync + 'static>(
    operation: &'static str,
    result: Result<T, E>,
) -> Result<T, BenchError> {
    result.map_err(|source| BenchError::Postgres { operation, source: Box::new(source) })
}
