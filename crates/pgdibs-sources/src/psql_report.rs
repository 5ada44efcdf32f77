//! What psql says about an error, as a sentence with the file, the line and the statement.

/// The statement is cut after this many characters.
const SHOWN_OF_STATEMENT: usize = 2000;

use super::psql_text::Statement;

/// The error in `text`, which begins with psql's line about it (`psql:FILE:LINE: ERROR:  SQLSTATE: ...`).
pub(crate) fn sentence(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let Some(error) = Head::of(first) else {
        return first.to_owned();
    };
    let prefix = format!("psql:{}:{}: STATEMENT:", error.file, error.line);
    let mut notes = Vec::new();
    let mut position = None;
    let mut statement: Option<Vec<&str>> = None;
    for line in lines {
        match &mut statement {
            Some(statement) => statement.push(line),
            None => match line.strip_prefix(&prefix) {
                Some(begin) => statement = Some(vec![begin.trim_start()]),
                None => {
                    if let Some(number) = line.strip_prefix("LINE ").and_then(|rest| rest.split(':').next()) {
                        position = number.parse::<usize>().ok();
                    }
                    if !line.starts_with("LOCATION:") {
                        notes.push(line);
                    }
                }
            },
        }
    }
    let inner = notes.iter().any(|line| line.starts_with("QUERY:") || line.starts_with("CONTEXT:"));
    // The text that is kept of an error has an end; then the number of the statement's lines is not known.
    let whole = text.len() < 12 * 1024;
    let begin = match &statement {
        Some(statement) if !inner && whole => (error.line + 1).checked_sub(statement.len()).filter(|begin| *begin > 0),
        _ => None,
    };
    // psql names the last line of the statement; the server knows on which of its lines the error is.
    let line = match (begin, position) {
        (Some(begin), Some(position)) if begin + position <= error.line + 1 => begin + position - 1,
        _ => error.line,
    };
    let mut all = format!("{}, line {line}: {}", error.file, error.message);
    if error.message.contains("invalid command \\restrict") || error.message.contains("invalid command \\unrestrict") {
        all.push_str("; the file was written by a pg_dump newer than this psql: set pg_bin_dir to newer programs");
    }
    if let (Some(code), Some(statement)) = (error.code, &statement)
        && let Some(hint) = hint(code, &statement.join("\n"))
    {
        all.push_str("; ");
        all.push_str(hint);
    }
    for note in notes {
        all.push('\n');
        all.push_str(note);
    }
    if let Some(statement) = statement {
        let place = match begin {
            Some(begin) if begin < error.line => format!(" (lines {begin} to {})", error.line),
            _ => String::new(),
        };
        all.push_str(&format!("\nin the statement{place}:\n{}", cut(statement.join("\n").trim_end())));
    }
    all
}

/// The way out, where it is a setting of the pool or another dump: the build's login is no superuser and makes no roles.
fn hint(code: &str, statement: &str) -> Option<&'static str> {
    const ROLE: &str =
        "if this is about a role: list it under `roles` of the pool, or make the dump with --no-owner --no-privileges";
    let statement = Statement::outline(statement);
    let begins_with_one_of = |all: &[&[&str]]| all.iter().any(|words| statement.begins_with(words));
    let names_a_role = begins_with_one_of(&[
        &["grant"],
        &["revoke"],
        &["alter", "default", "privileges"],
        &["create", "policy"],
        &["alter", "policy"],
        &["create", "user", "mapping"],
        &["set", "role"],
        &["set", "session", "authorization"],
    ]) || statement.ends_with_owner();
    match code {
        "42501"
            if begins_with_one_of(&[
                &["create", "extension"],
                &["comment", "on", "extension"],
                &["alter", "extension"],
            ]) =>
        {
            Some("the build's login is no superuser: list the extension under `extensions` of the pool")
        }
        "42501" if begins_with_one_of(&[&["create", "database"], &["drop", "database"]]) => {
            Some("the build has its database already: make the dump without --create")
        }
        "42501" => Some(ROLE),
        "42704" if names_a_role => Some(ROLE),
        _ => None,
    }
}

fn cut(statement: &str) -> String {
    match statement.char_indices().nth(SHOWN_OF_STATEMENT) {
        Some((at, _)) => format!("{} … ({} more bytes)", &statement[..at], statement.len() - at),
        None => statement.to_owned(),
    }
}

struct Head<'a> {
    file: &'a str,
    line: usize,
    /// The SQLSTATE, when the server said one.
    code: Option<&'a str>,
    /// With the SQLSTATE at its end.
    message: String,
}

impl<'a> Head<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let rest = line.strip_prefix("psql:")?;
        let (at, severity) = [": ERROR:  ", ": FATAL:  ", ": error: "]
            .into_iter()
            .filter_map(|severity| rest.find(severity).map(|at| (at, severity)))
            .min()?;
        let (file, number) = rest[..at].rsplit_once(':')?;
        let message = &rest[at + severity.len()..];
        let (code, message) = match message.split_once(": ") {
            Some((code, words)) if is_sqlstate(code) => (Some(code), format!("{words} (SQLSTATE {code})")),
            _ => (None, message.to_owned()),
        };
        Some(Self { file, line: number.parse().ok()?, code, message })
    }
}

fn is_sqlstate(code: &str) -> bool {
    code.len() == 5 && code.bytes().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase())
}
