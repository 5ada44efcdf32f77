//! Suggests a known name for an unknown one.

/// The most similar known name, if at most a third of the letters of `written`, rounded, differ. Hyphens count as underscores, capitals as
/// small letters.
pub fn suggestion<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
    let unknown = plain(written);
    let allowed = (unknown.chars().count() + 1) / 3;
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&unknown, &plain(name)), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// A suggestion, otherwise all known names.
pub fn hint(written: &str, known: &[&str]) -> String {
    match suggestion(written, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: two letters could always differ, so that `foo` got the suggestion `log`.
    #[test]
    fn suggestion_is_near_or_absent() {
        let known = ["log", "listen", "token", "max", "warm", "stop"];
        for (written, near) in
            [("lgo", "log"), ("listn", "listen"), ("Lisetn", "listen"), ("wram", "warm"), ("tokne", "token")]
        {
            assert_eq!(suggestion(written, known), Some(near), "{written}");
        }
        for far in ["foo", "min", "drop", "x", "", "shutdown"] {
            assert_eq!(suggestion(far, known), None, "{far}");
        }
    }
}
