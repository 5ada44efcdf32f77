//! Tables without lines, and words for sizes, times and names that others chose.

use comfy_table::{ContentArrangement, Table, presets};

/// A table; its header is bold where colours are shown.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>, colour: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>());
    for row in rows {
        table.add_row(row.iter().map(|text| plain(text)).collect::<Vec<String>>());
    }
    let shown = table.trim_fmt();
    // The borderless style still pads each cell on its left.
    let lines = shown.lines().map(|line| line.strip_prefix(' ').unwrap_or(line));
    let lines = lines.enumerate().map(|(number, line)| match number {
        0 if colour => format!("\x1b[1m{line}\x1b[0m\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

/// Text that somebody else chose, such as a holder: whoever leases must not be able to steer our user's terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// At most `most` characters, the end replaced by an ellipsis.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// `12.8 MB`, as Postgres' own tools count: 1 MB is 1024 kB.
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
    fn columns_stand_under_their_headers_without_lines() {
        let shown = table(
            &["POOL", "READY"],
            vec![vec!["a_long_name".to_owned(), "4".to_owned()], vec!["b".to_owned(), "12".to_owned()]],
            false,
        );
        assert_eq!(shown, "POOL         READY\na_long_name  4\nb            12\n");
    }

    #[test]
    fn a_holder_cannot_send_escape_sequences_to_the_terminal() {
        let shown = table(&["HOLDER"], vec![vec!["ci\x1b[2J\nroot\u{9b}".to_owned()]], false);
        assert_eq!(shown, "HOLDER\nci\u{fffd}[2J\u{fffd}root\u{fffd}\n");
    }

    #[test]
    fn times_and_sizes_are_said_in_the_unit_that_fits() {
        let said: Vec<String> = [-3.0, 0.04, 9.96, 12.7, 200.0, 7500.0, 273_600.0].into_iter().map(duration).collect();
        assert_eq!(said, ["0.0 s", "0.0 s", "10.0 s", "12 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"]);
        assert_eq!([size(512), size(2048), size(13_400_000)], ["512 bytes", "2.0 kB", "12.8 MB"]);
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("abcd", 4), "abcd");
    }
}
