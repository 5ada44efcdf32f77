//! Which known name somebody probably meant.

/// The known name nearest to `written`, if one is near enough to be worth saying: at most a third of its letters differ,
/// and two always may. Hyphens count as underscores and capitals as small letters.
pub fn suggestion<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
    let wanted = plain(written);
    let allowed = (wanted.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wanted, &plain(name)), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `did you mean ...?`, or the list of everything that is known.
pub fn hint(written: &str, known: &[&str]) -> String {
    match suggestion(written, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}
