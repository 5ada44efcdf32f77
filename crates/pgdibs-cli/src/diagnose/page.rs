//! The report as one HTML page without other files, light or dark as the reader's system is.

use super::advice::{seconds, sentences};
use super::measured::Measured;
use super::model::{Layouts, Prediction};
use super::screen::{headline, imports, layout_rows, mark, packages, parts, phases};

/// The whole page.
pub(crate) fn page(measured: &Measured, layouts: Option<&Layouts>) -> String {
    let mut body = String::new();
    let sentences: Vec<String> = sentences(measured, layouts);
    let items: String = sentences.iter().map(|sentence| format!("<li>{}</li>\n", escape(sentence))).collect();
    body.push_str(&format!("<ul class=\"advice\">\n{items}</ul>\n"));
    if let Some(layouts) = layouts {
        body.push_str(&bars(layouts));
        body.push_str(&table(
            &["Layout", "Predicted", "Uncertain by", "Processes that import", ""],
            &layout_rows(layouts),
        ));
    }
    body.push_str("<h2>Measured</h2>\n");
    body.push_str(&table(&["What", "Median", "Spread", "Runs"], &phases(measured)));
    let imports = imports(measured);
    if !imports.is_empty() {
        body.push_str("<h2>Imports</h2>\n");
        body.push_str(&table(&["Imported by", "What", "Seconds"], &imports));
        body.push_str(&format!("<p>{}</p>\n", escape(&packages(measured))));
    }
    if !measured.not_seen.is_empty() {
        let of = |not: &super::measured::NotSeen| {
            format!("<dt>{}</dt><dd><pre>{}</pre></dd>\n", escape(&not.what), escape(&not.why))
        };
        let items: String = measured.not_seen.iter().map(of).collect();
        body.push_str(&format!("<h2>Not seen</h2>\n<dl>\n{items}</dl>\n"));
    }
    include_str!("page.html").replace("{headline}", &escape(&headline(measured))).replace("{body}", &body)
}

/// One bar for each layout, with the seconds of its parts as a title.
fn bars(layouts: &Layouts) -> String {
    let longest = layouts.all.iter().map(|one| one.wall).fold(0.0, f64::max).max(1e-9);
    let row = |(number, one): (usize, &Prediction)| {
        let parts: String = parts(one)
            .iter()
            .map(|(name, part, ..)| {
                let class = name.split(' ').next().unwrap_or_default();
                format!(
                    "<i class=\"{class}\" style=\"width:{:.3}%\" title=\"{name}: {}\"></i>",
                    part / longest * 100.0,
                    seconds(*part)
                )
            })
            .collect();
        let mark = mark(layouts, number);
        let class = if number == layouts.recommended { " class=\"recommended\"" } else { "" };
        let mark = if mark.is_empty() { mark } else { format!("<small>{mark}</small>") };
        format!(
            "<tr{class}><th scope=\"row\">{}{mark}</th><td class=\"bar\"><div>{parts}</div></td><td class=\"seconds\">{}</td></tr>\n",
            escape(&one.layout.options()),
            seconds(one.wall)
        )
    };
    let rows: String = layouts.all.iter().enumerate().map(row).collect();
    let key: String = layouts
        .all
        .first()
        .map(parts)
        .into_iter()
        .flatten()
        .map(|(name, ..)| {
            let class = name.split(' ').next().unwrap_or_default();
            format!("<span><i class=\"{class}\"></i>{name}</span> ")
        })
        .collect();
    format!("<h2>Layouts</h2>\n<table class=\"bars\">\n{rows}</table>\n<p class=\"key\">{key}</p>\n")
}

fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let head: String = header.iter().map(|name| format!("<th scope=\"col\">{name}</th>")).collect();
    let cell = |text: &String| {
        let class = if text.starts_with("  ") { " class=\"part\"" } else { "" };
        format!("<td{class}>{}</td>", escape(text.trim_start()))
    };
    let rows: String =
        rows.iter().map(|row| format!("<tr>{}</tr>\n", row.iter().map(cell).collect::<String>())).collect();
    format!("<div class=\"wide\"><table>\n<tr>{head}</tr>\n{rows}</table></div>\n")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_command_cannot_become_elements() {
        let mut measured = Measured { command: "pytest -k '<script>'".to_owned(), ..Measured::default() };
        measured.cannot_see("a & b", "<b>");
        let page = page(&measured, None);
        assert!(page.contains("&lt;script&gt;") && page.contains("a &amp; b") && !page.contains("<b>"), "{page}");
        assert!(!page.contains("{body}") && !page.contains("{headline}") && !page.contains("http"), "{page}");
    }
}
