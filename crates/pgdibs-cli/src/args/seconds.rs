//! Parses the seconds of a flag.

/// A number of seconds from 0 to a day; fractions are allowed.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("write a number of seconds from 0 to 86400, such as 30 or 0.5".to_owned()),
    }
}
