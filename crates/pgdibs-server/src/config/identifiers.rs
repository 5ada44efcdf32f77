//! Rules for names that the configuration passes on to Postgres.

use super::error::ConfigError;
use super::layers::Found;

/// What Postgres takes as a name without cutting it short.
pub(super) fn check_identifier(setting: &str, found: &Found<String>) -> Result<(), ConfigError> {
    if found.value.len() <= 63 && !found.value.is_empty() && !found.value.contains(char::is_control) {
        return Ok(());
    }
    let problem = format!(
        "`{}` is not a name in Postgres; names have 1 to 63 bytes and no control characters",
        found.value.escape_default()
    );
    Err(ConfigError::value(setting, &found.origin, problem))
}

/// The same for a role, which must not have a reserved name.
pub(super) fn check_role(setting: &str, found: &Found<String>) -> Result<(), ConfigError> {
    check_identifier(setting, found)?;
    let reserved = found.value.starts_with("pg_") || matches!(found.value.as_str(), "public" | "none" | "pgdibs_owner");
    if !reserved {
        return Ok(());
    }
    let problem = format!("`{}` is reserved by Postgres or by pgdibs; choose another role", found.value);
    Err(ConfigError::value(setting, &found.origin, problem))
}
