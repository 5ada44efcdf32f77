//! Tables without borders, and the text form of foreign names.

use comfy_table::{ContentArrangement, Table, presets};
pub(super) use pgdibs_server::units::{duration, shortened, size};

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
}
