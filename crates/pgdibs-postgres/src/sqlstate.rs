//! Classifies errors of Postgres by their SQLSTATE alone. Message texts are translated and change between versions.

use std::io::ErrorKind;

/// A class of errors that pgdibs handles alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The connection has ended, the server starts or stops, or it accepts no more connections.
    Unavailable,
    /// `23505`, `42P04`, `42710`: the name or key exists already (of two concurrent creators, one gets one of these).
    Exists,
    /// `3D000`, `42704`: no such database or role.
    Missing,
    /// `55006`: sessions, prepared transactions, replication slots or subscriptions use the object.
    InUse,
    /// `42501`: the role lacks the privilege.
    Forbidden,
    /// `40001`, `40P01`, `55P03`, `57014`, and `XX000` "tuple concurrently updated": another session got in first; a retry may succeed.
    Contended,
    /// `53100`, `53200`, `53400`: disk or memory is exhausted.
    Exhausted,
    /// `28P01`, `28000`: the server refuses the login.
    Refused,
    /// `2BP01`: objects depend on the role.
    HasDependents,
    /// `PD001`, which functions of the catalog raise: the rows or the server are not as a step expects.
    Stale,
    Other,
}

/// The SQLSTATE of an error, if Postgres sent one.
pub fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|e| e.code()).map(std::borrow::Cow::into_owned)
}

pub fn class(error: &sqlx::Error) -> ErrorClass {
    let Some(code) = code(error) else {
        return match error {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::Tls(_) => ErrorClass::Unavailable,
            _ => ErrorClass::Other,
        };
    };
    match code.as_str() {
        "23505" | "42P04" | "42710" => ErrorClass::Exists,
        "3D000" | "42704" => ErrorClass::Missing,
        "55006" => ErrorClass::InUse,
        "42501" => ErrorClass::Forbidden,
        "2BP01" => ErrorClass::HasDependents,
        "PD001" => ErrorClass::Stale,
        "28P01" | "28000" => ErrorClass::Refused,
        "40001" | "40P01" | "55P03" | "57014" | "XX000" => ErrorClass::Contended,
        "53100" | "53200" | "53400" => ErrorClass::Exhausted,
        "53300" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04" => ErrorClass::Unavailable,
        other if other.starts_with("08") => ErrorClass::Unavailable,
        _ => ErrorClass::Other,
    }
}

/// Whether another session changed the same row, so that an immediate retry may succeed: `40001`, `40P01`, and `XX000` "tuple
/// concurrently updated", with which DDL on a row of a system catalog fails where other statements wait.
pub fn is_concurrent_update(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01" | "XX000"))
}

/// `40001` and `40P01`: Postgres rolled the transaction back because of a concurrent one, so it may run again as it is.
pub fn is_rolled_back(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// `42P01`, `42703`, `42883`: the catalog lacks a table, a column or a function, so another version of pgdibs made it.
pub fn is_other_schema(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("42P01" | "42703" | "42883"))
}

/// The error in one line, with its SQLSTATE. It never has a connection string: sqlx does not put one into its messages.
pub fn sentence(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(database) => {
            let code = database.code().unwrap_or_default();
            format!("{} ({code})", database.message())
        }
        None => match error {
            sqlx::Error::PoolTimedOut => "no connection to it answers".to_owned(),
            sqlx::Error::Io(io) if io.kind() == ErrorKind::NotFound => "no server listens on its socket".to_owned(),
            sqlx::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            _ => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a lease in an outage quoted the driver: "No such file or directory (os error 2)" (found by a new user).
    #[test]
    fn sentence_of_outage_names_server_not_file() {
        for (kind, expected) in [
            (ErrorKind::NotFound, "no server listens on its socket"),
            (ErrorKind::ConnectionRefused, "connection refused"),
        ] {
            assert_eq!(sentence(&sqlx::Error::Io(kind.into())), expected);
        }
    }
}
