//! Finds, in the output of a failed command, the place in the user's own files: a stack trace also has the lines of the libraries.

use std::path::{Path, PathBuf};

/// Directories of libraries below a project.
const LIBRARIES: [&str; 9] =
    ["site-packages", "dist-packages", "node_modules", "vendor", "gems", "venv", ".venv", ".tox", "bower_components"];

/// A line of a stack trace.
struct Frame {
    line: usize,
    /// As the message names it.
    place: String,
}

/// The innermost frame in a file below `directory` or `base`, and the error: `versions/3f.py, line 12, in upgrade: KeyError: 'x'`.
pub(crate) fn own_error(output: &str, directory: &Path, base: &Path) -> Option<String> {
    let lines: Vec<&str> = output.lines().collect();
    let own = |path: &str| own_file(path, directory, base);
    of_python(&lines, &own).or_else(|| of_others(&lines, &own))
}

/// The path as messages show it, of an existing file that belongs to no library.
fn own_file(path: &str, directory: &Path, base: &Path) -> Option<PathBuf> {
    let path = path.strip_prefix("file://").unwrap_or(path);
    let full = directory.join(path.strip_prefix("./").unwrap_or(path));
    let below = full.strip_prefix(base).or_else(|_| full.strip_prefix(directory)).ok()?;
    let is_library = below.iter().any(|part| LIBRARIES.iter().any(|library| part == *library));
    (!is_library && full.is_file()).then(|| below.to_owned())
}

/// The last traceback: `File "PATH", line N, in NAME`, the innermost frame last, then the error without indentation.
fn of_python(lines: &[&str], own: &dyn Fn(&str) -> Option<PathBuf>) -> Option<String> {
    let frame = |(line, text): (usize, &&str)| {
        let (path, rest) = text.trim_start().strip_prefix("File \"")?.split_once("\", ")?;
        Some(Frame { line, place: format!("{}, {rest}", own(path)?.display()) })
    };
    let frames: Vec<Frame> = lines.iter().enumerate().filter_map(frame).collect();
    let innermost = frames.last()?;
    let error = lines[innermost.line + 1..].iter().find(|line| !line.is_empty() && !line.starts_with([' ', '|']));
    Some(format!("{}: {}", innermost.place, error?.trim_end()))
}

/// Other languages: `PATH:LINE` in each line, the innermost frame first, and the error before it or, in Ruby, behind it.
fn of_others(lines: &[&str], own: &dyn Fn(&str) -> Option<PathBuf>) -> Option<String> {
    let is_frame = |text: &str| {
        let text = text.trim_start();
        text.starts_with("at ")
            || text.starts_with("from ")
            || !position(text, &|path| Some(PathBuf::from(path))).is_empty()
    };
    let mut found: Option<(usize, String)> = None;
    let mut is_within_trace = false;
    for (number, text) in lines.iter().enumerate() {
        let place = position(text, own);
        if !place.is_empty() && !is_within_trace {
            found = Some((number, place));
            is_within_trace = true;
        } else if !is_frame(text) {
            is_within_trace = false;
        }
    }
    let (number, place) = found?;
    if let Some((_, error)) = lines[number].split_once("': ") {
        return Some(format!("{place}: {}", error.trim_end()));
    }
    let before = lines[..number].iter().rev().find(|line| !line.trim().is_empty() && !is_frame(line));
    Some(match before.or_else(|| lines[number..].iter().find(|line| line.contains("Error"))) {
        Some(error) => format!("{place}: {}", error.trim()),
        None => lines[number].trim().to_owned(),
    })
}

/// The first `PATH:LINE` of a line whose path is a file of the user; empty without one.
fn position(text: &str, own: &dyn Fn(&str) -> Option<PathBuf>) -> String {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '\'' | '`' | '[' | ']'));
    for word in words {
        // The path may have a colon (`file://`), the line is followed by the column or by text.
        for (at, _) in word.match_indices(':') {
            let number: String = word[at + 1..].chars().take_while(char::is_ascii_digit).collect();
            let path = &word[..at];
            if !number.is_empty()
                && path.contains('.')
                && let Some(file) = own(path)
            {
                return format!("{}, line {number}", file.display());
            }
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(output: &str, expected: Option<&str>) {
        let base = tempfile::tempdir().unwrap();
        for file in [
            "app/versions/3f.py",
            "app/.venv/lib/site-packages/sql.py",
            "app/db/1.js",
            "app/node_modules/pg/c.js",
            "app/db/2.rb",
        ] {
            let path = base.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let directory = base.path().join("app");
        let output = output.replace("APP", directory.to_str().unwrap());
        assert_eq!(own_error(&output, &directory, base.path()).as_deref(), expected, "{output}");
    }

    #[test]
    fn own_error_is_the_innermost_frame_of_the_user() {
        check(
            "INFO running\nTraceback (most recent call last):\n  File \"APP/.venv/lib/site-packages/sql.py\", line 3, in run\n    x()\n  \
             File \"APP/versions/3f.py\", line 12, in upgrade\n    op.add()\n  File \"/usr/lib/python3/sql.py\", line 9, in do\n    raise\n\
             psycopg.errors.UndefinedTable: relation \"t\" does not exist\nLINE 1: alter\n",
            Some(
                "app/versions/3f.py, line 12, in upgrade: psycopg.errors.UndefinedTable: relation \"t\" does not exist",
            ),
        );
        check(
            "warning: slow\nerror: relation \"t\" does not exist\n    at Parser.parse (APP/node_modules/pg/c.js:1:2)\n    \
             at up (file://APP/db/1.js:7:9)\n    at main (APP/db/1.js:70:9)\n",
            Some("app/db/1.js, line 7: error: relation \"t\" does not exist"),
        );
        check(
            "rake aborted!\n/gems/x.rb:9:in `exec'\nAPP/db/2.rb:5:in `change': no table t (PG::UndefinedTable)\n\tfrom APP/db/2.rb:1:in `<main>'\n",
            Some("app/db/2.rb, line 5: no table t (PG::UndefinedTable)"),
        );
        check("./db/1.js:3\nSyntaxError: x\n", Some("app/db/1.js, line 3: SyntaxError: x"));
    }

    #[test]
    fn own_error_is_none_without_a_file_of_the_user() {
        check("error: 10:30: relation t does not exist at 127.0.0.1:5432\n", None);
        check("  File \"/usr/lib/x.py\", line 1, in f\nKeyError: 1\n", None);
        check("  File \"APP/versions/3f.py\", line 1, in f\n", None);
        check("  File \"APP/versions/gone.py\", line 1, in f\nKeyError: 1\n", None);
    }
}
