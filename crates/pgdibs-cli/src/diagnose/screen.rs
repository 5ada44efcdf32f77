//! The report as text, for a terminal or plain, and as Markdown for the summary of a job.

use super::advice::{origin, seconds, sentences};
use super::measured::Measured;
use super::model::{Layouts, Prediction};
use super::samples::Samples;
use crate::table::{lines_of, plain, shortened, table};

/// The characters of the longest bar.
const BAR: usize = 40;
/// How many import lines and packages are shown.
const IMPORTS_SHOWN: usize = 5;
/// Shorter imports are not shown.
const SHOWN_FROM: f64 = 0.01;

/// The whole report. With `colour` the bars are coloured blocks, otherwise letters.
pub(crate) fn screen(measured: &Measured, layouts: Option<&Layouts>, colour: bool) -> String {
    let mut text = lines_of(&headline(measured));
    text.push('\n');
    let rows = phases(measured);
    if !rows.is_empty() {
        text.push_str(&table(&["WHAT", "SECONDS", "SPREAD", "RUNS"], rows, colour));
    }
    let imports = imports(measured);
    if !imports.is_empty() {
        text.push('\n');
        text.push_str(&table(&["IMPORTED BY", "WHAT", "SECONDS"], imports, colour));
        text.push_str(&lines_of(&packages(measured)));
    }
    if let Some(layouts) = layouts {
        text.push('\n');
        text.push_str(&table(&LAYOUT_HEADER, layout_rows(layouts), colour));
        text.push('\n');
        text.push_str(&bars(layouts, colour));
    }
    for sentence in sentences(measured, layouts) {
        text.push('\n');
        text.push_str(&lines_of(&sentence));
    }
    text.push_str(&not_seen(measured));
    text
}

const LAYOUT_HEADER: [&str; 5] = ["LAYOUT", "PREDICTED", "UNCERTAIN BY", "PROCESSES", ""];

pub(crate) fn headline(measured: &Measured) -> String {
    let options = &measured.options;
    let version = |name: &str, version: &Option<String>| version.as_ref().map(|version| format!("{name} {version}"));
    let mut parts = vec![match measured.ids.len() {
        0 => "no test seen".to_owned(),
        1 => "1 test".to_owned(),
        count => format!("{count} tests"),
    }];
    if !measured.python_version.is_empty() {
        parts.push(format!("Python {}", measured.python_version));
        parts.push(format!("pytest {}", measured.pytest_version));
    }
    parts.extend(version("xdist", &options.xdist));
    parts.extend(version("pytest-cov", &options.coverage));
    parts.push(format!("{} cores", measured.cores));
    if measured.is_partial {
        parts.push("the measurements were cut short".to_owned());
    }
    format!("{}: {}", plain(&shortened(&measured.command, 60)), parts.join(", "))
}

/// The measured phases: name, median, spread, runs.
pub(crate) fn phases(measured: &Measured) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut add = |name: String, samples: &Samples| {
        if let Some(median) = samples.median() {
            let spread = samples.spread().map_or_else(String::new, |spread| format!("±{:.0} %", spread * 100.0));
            rows.push(vec![name, seconds(median), spread, samples.count().to_string()]);
        }
    };
    add("start-up of one process, to the end of collection".to_owned(), &measured.start_up);
    add("  interpreter start".to_owned(), &measured.interpreter);
    add("  pytest and its plugins, with the interpreter".to_owned(), &measured.pytest);
    add("  conftest".to_owned(), &measured.conftest);
    add("  collection".to_owned(), &measured.collection);
    add("start-up without coverage".to_owned(), &measured.start_up_without_coverage);
    add(format!("the test file {} alone", measured.small_file_name), &measured.small_file);
    if let Some(database) = &measured.database {
        add("database: the lease".to_owned(), &database.lease);
        add("database: session fixtures that prepare it".to_owned(), &database.session);
    }
    let mut at_once: Vec<_> = measured.at_once.iter().filter(|one| one.processes > 0).collect();
    at_once.sort_by_key(|one| one.processes);
    for one in at_once {
        add(format!("start-up of {} at once", one.processes), &one.start_up);
    }
    if let Some(durations) = &measured.durations {
        let known = if durations.known == durations.tests.len() {
            String::new()
        } else {
            format!(", {} known", durations.known)
        };
        let from = origin(&durations.origin);
        rows.push(vec![
            format!("all tests, one after another ({from}{known})"),
            seconds(durations.sum()),
            String::new(),
            String::new(),
        ]);
        if let Some((id, longest)) = durations.longest() {
            rows.push(vec![
                format!("the longest test, {}", plain(&shortened(id, 60))),
                seconds(longest),
                String::new(),
                String::new(),
            ]);
        }
    }
    rows
}

/// The import lines of the user's own files that take most.
pub(crate) fn imports(measured: &Measured) -> Vec<Vec<String>> {
    let lines = measured.lines.sorted().into_iter().filter(|line| line.seconds >= SHOWN_FROM).take(IMPORTS_SHOWN);
    lines.map(|line| vec![format!("{}:{}", line.file, line.line), line.what, seconds(line.seconds)]).collect()
}

/// The packages that take most, by `-X importtime`.
pub(crate) fn packages(measured: &Measured) -> String {
    let packages = measured.packages.medians().into_iter().filter(|(_, took)| *took >= SHOWN_FROM).take(8);
    let packages: Vec<String> = packages.map(|(name, took)| format!("{name} {}", seconds(took))).collect();
    if packages.is_empty() { String::new() } else { format!("by package (-X importtime): {}", packages.join(", ")) }
}

/// The rows of the table of layouts.
pub(crate) fn layout_rows(layouts: &Layouts) -> Vec<Vec<String>> {
    let row = |(number, one): (usize, &Prediction)| {
        let tilde = if one.is_extrapolated { "~" } else { "" };
        vec![
            one.layout.options(),
            format!("{tilde}{}", seconds(one.wall)),
            seconds(one.uncertainty),
            one.layout.processes().to_string(),
            mark(layouts, number),
        ]
    };
    layouts.all.iter().enumerate().map(row).collect()
}

pub(crate) fn mark(layouts: &Layouts, number: usize) -> String {
    match (number == layouts.present, number == layouts.recommended) {
        (true, true) => "present, recommended".to_owned(),
        (true, false) => "present".to_owned(),
        (false, true) => "recommended".to_owned(),
        (false, false) => String::new(),
    }
}

/// The parts of a bar: name, seconds, the letter and the colour of it.
pub(crate) fn parts(one: &Prediction) -> [(&'static str, f64, char, u8); 4] {
    [
        ("start-up", one.start_up, '#', 33),
        ("database", one.database, 'd', 34),
        ("tests", one.tests, '=', 32),
        ("idle and end", one.idle + one.end, '.', 90),
    ]
}

fn bars(layouts: &Layouts, colour: bool) -> String {
    let longest = layouts.all.iter().map(|one| one.wall).fold(0.0, f64::max).max(1e-9);
    let width = layouts.all.iter().map(|one| one.layout.options().chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for one in &layouts.all {
        let mut bar = String::new();
        let (mut at, mut drawn) = (0.0, 0);
        for (_, part, letter, code) in parts(one) {
            at += part;
            // Rounded at the end of each part, so that the whole has the right length.
            let end = (at / longest * BAR as f64).round() as usize;
            let count = end.saturating_sub(drawn);
            drawn = drawn.max(end);
            match colour {
                true => bar.push_str(&format!("\x1b[{code}m{}\x1b[0m", "█".repeat(count))),
                false => bar.extend(std::iter::repeat_n(letter, count)),
            }
        }
        text.push_str(&format!("{:<width$}  {bar} {}\n", one.layout.options(), seconds(one.wall)));
    }
    let key = layouts.all.first().map(parts).into_iter().flatten().map(|(name, _, letter, code)| match colour {
        true => format!("\x1b[{code}m█\x1b[0m {name}"),
        false => format!("{letter} {name}"),
    });
    format!("{text}{:<width$}  {}\n", "", key.collect::<Vec<_>>().join("  "))
}

fn not_seen(measured: &Measured) -> String {
    let mut text = String::new();
    for not_seen in &measured.not_seen {
        text.push('\n');
        // The end of a command's output keeps its lines.
        let mut lines = not_seen.why.lines();
        let first = lines.next().unwrap_or_default();
        text.push_str(&lines_of(&format!("not seen: {}: {first}", not_seen.what)));
        text.extend(lines.map(|line| format!("{}\n", plain(line))));
    }
    text
}

/// The report for the summary of a GitHub Actions job.
pub(crate) fn markdown(measured: &Measured, layouts: Option<&Layouts>) -> String {
    let escape = |text: &str| plain(text).replace('|', "\\|").replace('<', "&lt;");
    let mut text = format!("## pgdibs diagnose\n\n{}\n\n", escape(&headline(measured)));
    for sentence in sentences(measured, layouts) {
        text.push_str(&format!("- {}\n", escape(&sentence)));
    }
    let mut add = |header: &[&str], rows: Vec<Vec<String>>| {
        if rows.is_empty() {
            return;
        }
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
        text.push_str(&format!("\n{}{}", line(&header), line(&vec!["---".to_owned(); header.len()])));
        for row in rows {
            text.push_str(&line(&row.iter().map(|cell| escape(cell)).collect::<Vec<_>>()));
        }
    };
    add(&["layout", "predicted", "uncertain by", "processes", ""], layouts.map(layout_rows).unwrap_or_default());
    add(&["what", "seconds", "spread", "runs"], phases(measured));
    add(&["imported by", "what", "seconds"], imports(measured));
    for not_seen in &measured.not_seen {
        let first = not_seen.why.lines().next().unwrap_or_default();
        text.push_str(&format!("\nNot seen: {}: {}\n", escape(&not_seen.what), escape(first)));
    }
    text
}
