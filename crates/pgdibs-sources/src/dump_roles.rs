//! The roles that a dump names: which keep what they own, and which has another name on the server that the dump is restored on.

use std::ops::Range;

use super::psql_text::Statement;

/// What becomes of the roles of a dump. The default is for a dump of any database: what it has becomes the builder's.
#[derive(Debug, Clone, Default)]
pub struct DumpRoles {
    /// They exist on the server, and own here what they own in the dump.
    pub kept: Vec<String>,
    /// The role that owns the rest, and the one that the builder acts as.
    pub owner: Option<(String, String)>,
    /// A schema of the dump, and the statement with which roles may own objects in it: a dump has the grants on it after its objects, and
    /// Postgres demands of a new owner that it may create in the schema.
    pub schemas: Vec<(String, String)>,
}

impl DumpRoles {
    /// Whether the statement gives something to a role that keeps it, or is about the default privileges of such a role.
    pub(super) fn keep_owner(&self, statement: &Statement, line: &[u8]) -> bool {
        let tokens = tokens(line);
        let role = if statement.begins_with(&["alter", "default", "privileges", "for"]) {
            tokens.get(5)
        } else if statement.begins_with(&["alter"]) && statement.ends_with_owner() {
            tokens.iter().rev().find(|token| line[token.start] != b';')
        } else {
            None
        };
        role.is_some_and(|token| self.kept.contains(&unquoted(&line[token.clone()])))
    }

    /// What follows `CREATE SCHEMA`, whose rest this is.
    pub(super) fn grants_in(&self, rest: &[u8]) -> &[u8] {
        let name = tokens(rest).first().map(|token| unquoted(&rest[token.clone()]));
        let found = self.schemas.iter().find(|(schema, _)| Some(schema) == name.as_ref());
        found.map_or(b"", |(_, grant)| grant.as_bytes())
    }

    /// The statement with the present name of the owner, where it names the owner in the dump.
    pub(super) fn renamed(&self, statement: &Statement, line: &[u8]) -> Option<Vec<u8>> {
        const STATEMENTS: [&[&str]; 4] =
            [&["grant"], &["revoke"], &["alter", "default", "privileges"], &["create", "policy"]];
        let (from, to) = self.owner.as_ref().filter(|(from, to)| from != to)?;
        if !STATEMENTS.iter().any(|words| statement.begins_with(words)) {
            return None;
        }
        let mut renamed = line.to_vec();
        for pair in tokens(line).windows(2).rev() {
            let word = &line[pair[0].clone()];
            let is_before_role = ["to", "from", ","].iter().any(|one| word.eq_ignore_ascii_case(one.as_bytes()));
            if is_before_role && unquoted(&line[pair[1].clone()]) == *from {
                renamed.splice(pair[1].clone(), format!("\"{}\"", to.replace('"', "\"\"")).into_bytes());
            }
        }
        Some(renamed)
    }
}

/// The name that a token of SQL stands for.
fn unquoted(token: &[u8]) -> String {
    let text = String::from_utf8_lossy(token);
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => text.into_owned(),
    }
}

/// The tokens of a statement in one line, as far as words and quoted texts matter.
pub(super) fn tokens(line: &[u8]) -> Vec<Range<usize>> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < line.len() {
        let begin = at;
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii();
        match line[at] {
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < line.len() && (line[at] != quote || line.get(at + 1) == Some(&quote)) {
                    at += 1 + usize::from(line[at] == quote);
                }
                at += 1;
            }
            byte if is_word(&byte) => at += line[at..].iter().take_while(|byte| is_word(byte)).count(),
            _ => at += 1,
        }
        tokens.push(begin..at.min(line.len()));
    }
    tokens
}
