//! The command lines of the pages are ones that this program accepts.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;

use crate::parse::parse;

/// The words of the first command in a line of shell, up to a comment or an operator.
fn words(line: &str) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut quote = None;
    let mut word: Option<String> = None;
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '|' | '&' | ';' | '>' | ')') => break,
            (None, '#') if word.is_none() => break,
            (None, _) if character.is_whitespace() => words.extend(word.take().map(OsString::from)),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word.map(OsString::from));
    words
}

/// Each command line with whether it stands in running text, where it may lack arguments.
fn command_lines(page: &str) -> Vec<(&str, bool)> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            let command = line.trim_start().trim_start_matches("$ ").trim_start_matches("$(");
            found.extend(command.starts_with("pgdibs ").then_some((command, false)));
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            found.extend(spans.filter(|span| span.starts_with("pgdibs ")).map(|span| (span, true)));
        }
    }
    // The rest are sentences that the program prints.
    found.retain(|(line, _)| {
        line.split(' ').nth(1).is_some_and(|word| word.starts_with(|first: char| first.is_ascii_lowercase()))
    });
    found
}

fn pages(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            // The internals name what the program calls itself with.
            if entry.file_name() == "internals" {
                continue;
            }
            pages(&entry.path(), found);
        } else if entry.path().extension().is_some_and(|extension| extension == "md") {
            found.push(entry.path());
        }
    }
}

#[test]
fn command_lines_of_pages_are_accepted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "clients/python/README.md"]
        .map(|page| root.join(page))
        .to_vec();
    ["docs", "deploy", "examples"].iter().for_each(|directory| pages(&root.join(directory), &mut found));
    let mut accepted = 0;
    let mut refused = Vec::new();
    for page in found {
        for (line, is_mention) in command_lines(&fs::read_to_string(&page).unwrap()) {
            match parse(&words(line)) {
                Ok(_) => accepted += 1,
                Err(error) if is_mention && is_incomplete(error.kind()) => accepted += 1,
                Err(error) => refused.push(format!("{}: {line}\n{error}", page.display())),
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert!(accepted > 50, "{accepted} command lines found");
}

/// What running text leaves out: an argument, or its value (`--workers N`).
fn is_incomplete(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ValueValidation
            | ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}
