//! Formats an error of psql, with the file, the line and the statement.

/// The maximum length of a shown statement, in characters.
const MAX_STATEMENT: usize = 2000;

use super::psql_text::Statement;

/// Formats the error that `text` begins with (`psql:FILE:LINE: ERROR:  SQLSTATE: ...`).
pub(crate) fn sentence(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let Some(error) = ErrorLine::parse(first) else {
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
    // Of a longer error only the beginning was kept, so the number of the statement's lines is not known.
    let is_complete = text.len() < 12 * 1024;
    let begin = match &statement {
        Some(statement) if !inner && is_complete => {
            (error.line + 1).checked_sub(statement.len()).filter(|begin| *begin > 0)
        }
        _ => None,
    };
    // psql reports the last line of the statement, and the server the line of the error within it.
    let line = match (begin, position) {
        (Some(begin), Some(position)) if begin + position <= error.line + 1 => begin + position - 1,
        _ => error.line,
    };
    let mut all = format!("{}, line {line}: {}", error.file, error.message);
    if error.message.contains("invalid command \\restrict") || error.message.contains("invalid command \\unrestrict") {
        all.push_str("; a pg_dump newer than this psql wrote the file: set pg_bin_dir to newer programs");
    }
    if let (Some(code), Some(statement)) = (error.code, &statement)
        && let Some(hint) = hint(code, &inner_statement(&notes).unwrap_or_else(|| statement.join("\n")))
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
        all.push_str(&format!("\nin the statement{place}:\n{}", truncate(statement.join("\n").trim_end())));
    }
    all
}

/// The statement inside a block or function that failed, which psql shows as `CONTEXT:  SQL statement "…"`.
fn inner_statement(notes: &[&str]) -> Option<String> {
    let begin = notes.iter().position(|line| line.starts_with("CONTEXT:  SQL statement \""))?;
    let end = notes[begin..].iter().position(|line| line.ends_with('"'))?;
    let text = notes[begin..=begin + end].join("\n");
    Some(text["CONTEXT:  SQL statement \"".len()..].trim_end_matches('"').to_owned())
}

/// What to do when the cause may be that the build's login is no superuser and has no roles: change the pool's settings or the dump.
fn hint(code: &str, text: &str) -> Option<&'static str> {
    const ROLE: &str =
        "if this is about a role: list it under `roles` of the pool, or make the dump with --no-owner --no-privileges";
    const OWNER: &str = "list the new owner under `roles` of the pool; in another schema than `public` it also needs `grant create on schema`";
    const DATABASE: &str = "the database belongs to pgdibs, and its name differs in each clone: write `alter role current_user set ...`, which every \
                            clone and the next file get";
    let is_about_databases =
        text.to_ascii_lowercase().split_whitespace().collect::<Vec<_>>().join(" ").contains("alter database");
    let statement = Statement::outline(text);
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
    ]);
    let is_about_mapping = begins_with_one_of(&[
        &["create", "user", "mapping"],
        &["alter", "user", "mapping"],
        &["drop", "user", "mapping"],
    ]);
    let changes_a_role =
        |verb: &str| !is_about_mapping && begins_with_one_of(&[&[verb, "role"], &[verb, "user"], &[verb, "group"]]);
    let is_membership = begins_with_one_of(&[&["grant"], &["revoke"]])
        && !text.split_whitespace().any(|word| word.eq_ignore_ascii_case("on"));
    match code {
        "42501" | "42710" if changes_a_role("create") => Some(
            "a build may not create roles, which belong to the whole server: list the role under `roles` of the pool, so that pgdibs \
             creates it before the build, and skip this statement when pg_roles has the role; or set `login = \"superuser\"` for the pool, \
             which its builds get too",
        ),
        "42501" | "42704" if changes_a_role("alter") || changes_a_role("drop") || code == "42501" && is_membership => {
            Some(
                "a build may not change roles, which belong to the whole server, except for memberships among those under `roles` of the pool, which \
             exist before the build without login; what needs more needs `login = \"superuser\"` for the pool, which its builds get too",
            )
        }
        "42501" if begins_with_one_of(&[&["alter", "extension"], &["drop", "extension"]]) => Some(
            "an untrusted extension belongs to a superuser, and so do the functions of every extension: skip this statement; the daemon creates \
             what `extensions` of the pool lists, in the server's newest version and with { name = \"postgis\", schema = \"gis\" } in that schema",
        ),
        "42501" if begins_with_one_of(&[&["create", "extension"], &["comment", "on", "extension"]]) => {
            Some("the build's login is no superuser: list the extension under `extensions` of the pool")
        }
        "42501" if begins_with_one_of(&[&["create", "server"]]) => Some(
            "the build's login may use a foreign-data wrapper when the pool lists its extension under `extensions`",
        ),
        "42501"
            if begins_with_one_of(&[
                &["create", "event", "trigger"],
                &["create", "foreign", "data", "wrapper"],
                &["create", "subscription"],
                &["create", "publication"],
                &["create", "access", "method"],
                &["alter", "system"],
                &["copy"],
            ]) =>
        {
            Some("only a superuser may do this: set `login = \"superuser\"` for the pool, which its builds get too")
        }
        "42501" if begins_with_one_of(&[&["create", "database"], &["drop", "database"]]) => {
            Some("the build already has a database: make the dump without --create")
        }
        "42501" | "3D000" if is_about_databases => Some(DATABASE),
        "42501" if statement.ends_with_owner() => Some(OWNER),
        "42501" | "42704" if names_a_role || statement.ends_with_owner() => Some(ROLE),
        "42501" => Some(
            "the build's login is no superuser; if the statement needs one, set `login = \"superuser\"` for the pool, which its builds get too",
        ),
        _ => None,
    }
}

fn truncate(statement: &str) -> String {
    match statement.char_indices().nth(MAX_STATEMENT) {
        Some((at, _)) => format!("{} … ({} more bytes)", &statement[..at], statement.len() - at),
        None => statement.to_owned(),
    }
}

struct ErrorLine<'a> {
    file: &'a str,
    line: usize,
    /// The SQLSTATE of an error of the server.
    code: Option<&'a str>,
    /// With the SQLSTATE at its end.
    message: String,
}

impl<'a> ErrorLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
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
