//! Tables without borders, and the text form of sizes, times and foreign names.

use comfy_table::{ContentArrangement, Table, presets};

/// The columns of a terminal, and of what is written to a file or a pipe.
const WIDTH: usize = 80;
/// Between two columns of a table.
const GAP: usize = 2;
/// No column is made narrower.
const MIN_COLUMN: usize = 8;
const INDENT: &str = "  ";

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

/// A table whose columns `shrinkable` are shortened, in this order, until it fits.
pub(super) fn fitted_table(header: &[&str], mut rows: Vec<Vec<String>>, shrinkable: &[usize], colour: bool) -> String {
    let widest = |rows: &[Vec<String>], column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|name| name.chars().count())).max().unwrap_or_default()
    };
    for &column in shrinkable {
        let total: usize = (0..header.len()).map(|column| widest(&rows, column) + GAP).sum::<usize>() - GAP;
        let width = widest(&rows, column).saturating_sub(total.saturating_sub(WIDTH)).max(MIN_COLUMN);
        for cell in rows.iter_mut().filter_map(|row| row.get_mut(column)) {
            *cell = shortened(cell, width);
        }
    }
    table(header, rows, colour)
}

/// The lines of a text, wrapped between words; further lines are indented. A word that is longer, such as a path, stays whole.
pub(super) fn lines_of(text: &str) -> String {
    let mut wrapped = String::new();
    for (number, line) in text.trim_end().lines().enumerate() {
        let line = if number == 0 { plain(line) } else { format!("{INDENT}{}", plain(line)) };
        if line.chars().count() <= WIDTH {
            wrapped.push_str(&format!("{line}\n"));
            continue;
        }
        let options = textwrap::Options::new(WIDTH).subsequent_indent(INDENT).break_words(false);
        let options = options.word_splitter(textwrap::WordSplitter::NoHyphenation);
        wrapped.extend(textwrap::wrap(&line, options).iter().map(|line| format!("{line}\n")));
    }
    wrapped
}

/// Text of another user, such as a holder, in one line and without control characters, which could control this user's terminal.
pub(super) fn plain(text: &str) -> String {
    let plain = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(plain).collect()
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
        assert_eq!(shown, "HOLDER\nci\u{fffd}[2J root\u{fffd}\n");
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
