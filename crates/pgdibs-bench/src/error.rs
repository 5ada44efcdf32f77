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
    /// The benchmark's own server could not be started or stopped.
    #[error(transparent)]
    Server(#[from] pgdibs_embedded::EmbeddedError),
    /// Postgres refused something.
    #[error("the server refused {operation}: {source}")]
    Postgres { operation: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    /// The given server cannot be measured.
    #[error("{0}")]
    Unusable(String),
    /// A file could not be written.
    #[error("cannot write {path}: {why}")]
    File { path: String, why: String },
    /// SIGINT or SIGTERM.
    #[error("interrupted: the rows above are what was measured until then")]
    Interrupted,
    /// A lease is not as pgdibs guarantees. The measurements of such a pgdibs are worth nothing, so none is printed.
    #[error("pgdibs broke a guarantee, so the benchmark stopped without results: {0}")]
    Broken(String),
}

impl BenchError {
    /// For an exit code as shells use it.
    pub(crate) fn exit_code(&self) -> u8 {
        if matches!(self, Self::Interrupted) { 130 } else { 1 }
    }
}

/// Adds the operation to an error of Postgres.
pub(crate) fn context<T, E: std::error::Error + Send + Sync + 'static>(
    operation: &'static str,
    result: Result<T, E>,
) -> Result<T, BenchError> {
    result.map_err(|source| BenchError::Postgres { operation, source: Box::new(source) })
}
