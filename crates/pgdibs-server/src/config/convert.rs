//! From a raw value of any layer to a typed one, with the rule in the sentence when it does not fit.

use super::error::ConfigError;
use super::layers::{Found, Raw};

/// A string.
///
/// # Errors
/// Another kind of value, or an empty string.
pub fn text(setting: &str, found: Found<Raw>) -> Result<Found<String>, ConfigError> {
    let Found { value, origin } = found;
    match value {
        Raw::Text(value) if value.trim().is_empty() => {
            Err(ConfigError::value(setting, &origin, "the value is empty; give one or leave the setting out"))
        }
        Raw::Text(value) => Ok(Found { value, origin }),
        other => {
            let problem = format!("a string is wanted, not {}; put it in quotes", other.kind());
            Err(ConfigError::value(setting, &origin, problem))
        }
    }
}

/// A whole number between the two, both included.
///
/// # Errors
/// Anything else.
pub fn number(setting: &str, found: Found<Raw>, low: i64, high: i64) -> Result<Found<i64>, ConfigError> {
    let Found { value, origin } = found;
    let (number, written) = match value {
        Raw::Integer(number) => (Some(number), number.to_string()),
        Raw::Text(text) if !matches!(origin, super::layers::Origin::File { .. }) => {
            (text.trim().parse().ok(), format!("`{text}`"))
        }
        other => (None, other.kind().to_owned()),
    };
    match number {
        Some(value) if (low..=high).contains(&value) => Ok(Found { value, origin }),
        Some(_) => {
            let problem = format!("{written} is out of range; give a whole number from {low} to {high}");
            Err(ConfigError::value(setting, &origin, problem))
        }
        None => {
            let problem = format!("a whole number from {low} to {high} is wanted, not {written}");
            Err(ConfigError::value(setting, &origin, problem))
        }
    }
}

/// true or false; as text also 1, 0, yes, no, on, off.
///
/// # Errors
/// Anything else.
pub fn boolean(setting: &str, found: Found<Raw>) -> Result<Found<bool>, ConfigError> {
    let Found { value, origin } = found;
    let (parsed, written) = match value {
        Raw::Boolean(value) => (Some(value), String::new()),
        Raw::Text(text) if !matches!(origin, super::layers::Origin::File { .. }) => {
            let parsed = match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some(true),
                "false" | "0" | "no" | "off" => Some(false),
                _ => None,
            };
            (parsed, format!("`{text}`"))
        }
        other => (None, other.kind().to_owned()),
    };
    match parsed {
        Some(value) => Ok(Found { value, origin }),
        None => Err(ConfigError::value(setting, &origin, format!("true or false is wanted, not {written}"))),
    }
}

/// Words: an array of strings, or one string with commas. Blank entries are left out.
///
/// # Errors
/// Another kind of value.
pub fn list(setting: &str, found: Found<Raw>) -> Result<Found<Vec<String>>, ConfigError> {
    let Found { value, origin } = found;
    let words = match value {
        Raw::Text(text) => text.split(',').map(str::to_owned).collect(),
        Raw::List(words) => words,
        other => {
            let problem = format!("an array of strings is wanted, not {}", other.kind());
            return Err(ConfigError::value(setting, &origin, problem));
        }
    };
    let value = words.iter().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect();
    Ok(Found { value, origin })
}
