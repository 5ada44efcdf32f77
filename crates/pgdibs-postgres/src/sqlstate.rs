//! What a Postgres error means, told by its SQLSTATE alone. Message texts are translated and change between versions.

use pgdibs_core::error::{Error, StepError};

/// A class of errors that pgdibs treats alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The connection is gone, the server starts, stops, or has no room for one more connection.
    Unavailable,
    /// `23505` and `42P04`: the name or key exists already (two creators race: one gets either).
    Exists,
    /// `3D000`, `42704`: no such database or role.
    Missing,
    /// `55006`: other sessions, prepared transactions, slots or subscriptions are in the way.
    InUse,
    /// `42501`: not allowed.
    Forbidden,
    /// `40001`, `40P01`, `55P03`, `57014`, and `XX000` "tuple concurrently updated": somebody was faster; another try may do.
    Contended,
    /// `53100`, `53200`, `53400`: disk or memory is short.
    Short,
    /// `28P01`, `28000`, `3D000` at connect: who or where is wrong, so another try will not help.
    Refused,
    /// `2BP01`: a role that owns something.
    Owns,
    /// Anything else.
    Other,
}

/// The SQLSTATE of an error, if Postgres sent one.
#[must_use]
pub fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|e| e.code()).map(std::borrow::Cow::into_owned)
}

/// Classifies an error.
#[must_use]
pub fn meaning(error: &sqlx::Error) -> Meaning {
    let Some(code) = code(error) else {
        return match error {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::Tls(_) => Meaning::Unavailable,
            _ => Meaning::Other,
        };
    };
    match code.as_str() {
        "23505" | "42P04" | "42710" => Meaning::Exists,
        "3D000" | "42704" => Meaning::Missing,
        "55006" => Meaning::InUse,
        "42501" => Meaning::Forbidden,
        "2BP01" => Meaning::Owns,
        "28P01" | "28000" => Meaning::Refused,
        "40001" | "40P01" | "55P03" | "57014" | "XX000" => Meaning::Contended,
        "53100" | "53200" | "53400" => Meaning::Short,
        "53300" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04" => Meaning::Unavailable,
        other if other.starts_with("08") => Meaning::Unavailable,
        _ => Meaning::Other,
    }
}

/// Whether another session changed the same row at that moment, so that the same statement may succeed at once: `40001`, `40P01`, and
/// `XX000` "tuple concurrently updated", with which DDL on a row of a catalog fails where other statements wait.
#[must_use]
pub fn is_concurrent_update(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01" | "XX000"))
}

/// The error as a caller of a request sees it.
#[must_use]
pub fn request_error(error: &sqlx::Error) -> Error {
    match meaning(error) {
        // We close our connections at the end only.
        _ if matches!(error, sqlx::Error::PoolClosed) => Error::ShuttingDown,
        // Of space, memory or configured limits there may be more in a moment, and nothing was done.
        Meaning::Unavailable | Meaning::Contended | Meaning::Refused | Meaning::Short => {
            Error::ServerUnavailable(sentence(error))
        }
        _ if is_without_catalog(error) => Error::ServerUnavailable(format!(
            "{}; the catalog of pgdibs is missing: the server came back empty and it is being made, or it was renamed or dropped (GET /readyz says which)",
            sentence(error)
        )),
        _ => Error::Internal(sentence(error)),
    }
}

/// `3D000`, `42P01`, `55000`: the catalog's database or a table of it is not there yet, or closed until it is complete. A server whose data
/// is in memory has forgotten it in a restart; the daemon makes it again.
fn is_without_catalog(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("3D000" | "42P01" | "55000"))
}

/// The error as the reconciler records it.
#[must_use]
pub fn step_error(error: &sqlx::Error) -> StepError {
    match meaning(error) {
        Meaning::Unavailable | Meaning::Refused => StepError::Unavailable(sentence(error)),
        _ => StepError::Failed(sentence(error)),
    }
}

/// The error in one line, with its SQLSTATE. Never carries a connection string: sqlx does not put one into its messages.
#[must_use]
pub fn sentence(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(database) => {
            let code = database.code().unwrap_or_default();
            format!("{} ({code})", database.message())
        }
        None => error.to_string(),
    }
}
