//! How people read durations, sizes and long texts: on the page and in the terminal alike.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures for people: rounded and never negative"
)]

/// `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    let rounded = seconds.max(0.0) as u64;
    match rounded {
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..60 => format!("{rounded} s"),
        60..3600 => format!("{} min {} s", rounded / 60, rounded % 60),
        3600..86_400 => format!("{} h {} min", rounded / 3600, rounded % 3600 / 60),
        _ => format!("{} d {} h", rounded / 86_400, rounded % 86_400 / 3600),
    }
}

/// `12.8 MB`, in the units of Postgres: 1 MB is 1024 kB.
#[must_use]
pub fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    let units = [("GB", 1024.0 * 1024.0 * 1024.0), ("MB", 1024.0 * 1024.0), ("kB", 1024.0)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

/// At most `max` characters, with an ellipsis at the end when the text is longer.
#[must_use]
pub fn shortened(text: &str, max: usize) -> String {
    match text.chars().count() > max {
        true => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_fitting_units() {
        let durations: Vec<String> =
            [-3.0, 0.04, 9.96, 12.7, 200.0, 7500.0, 273_600.0].into_iter().map(duration).collect();
        assert_eq!(durations, ["0.0 s", "0.0 s", "10.0 s", "12 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"]);
        assert_eq!([size(512), size(2048), size(13_400_000)], ["512 bytes", "2.0 kB", "12.8 MB"]);
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("abcd", 4), "abcd");
    }
}
