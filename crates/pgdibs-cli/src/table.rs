//! Tables without borders, and the text form of sizes, times and foreign names.

use comfy_table::{ContentArrangement, Table, presets};

/// A table; its header is bold with `colour`.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>, colour: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header).add_rows(rows.iter().map(|row| row.iter().map(|text| plain(text))));
    let shown = table.trim_fmt();
    // The borderless style pads each cell on its left.
    let lines = shown.lines().map(|line| line.strip_prefix(' ').unwrap_or(line));
    let lines = lines.enumerate().map(|(number, line)| match number {
        0 if colour => format!("\x1b[1m{line}\x1b[0m\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

/// Text of another user, such as a holder, without control characters, which could control this user's terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// At most `max` characters, with an ellipsis at the end when the text is longer.
pub(super) fn shortened(text: &str, max: usize) -> String {
    match text.chars().count() > max {
        true => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn duration(seconds: f64) -> String {
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
pub(super) fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    let units = [("GB", 1024.0 * 1024.0 * 1024.0), ("MB", 1024.0 * 1024.0), ("kB", 1024.0)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_aligns_columns_under_headers() {
        let shown = table(
            &["POOL", "READY"],
            vec![vec!["a_long_name".to_owned(), "4".to_owned()], vec!["b".to_owned(), "12".to_owned()]],
            false,
        );
        assert_eq!(shown, "POOL         READY\na_long_name  4\nb            12\n");
    }

    #[test]
    fn table_replaces_control_characters() {
        let shown = table(&["HOLDER"], vec![vec!["ci\x1b[2J\nroot\u{9b}".to_owned()]], false);
        assert_eq!(shown, "HOLDER\nci\u{fffd}[2J\u{fffd}root\u{fffd}\n");
    }

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
