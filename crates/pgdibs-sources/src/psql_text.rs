//! Scans text as psql does, line by line: quotes, data of COPY, and the boundaries of statements.
//!
//! It has no grammar. It takes the statements in bodies of functions in standard SQL (`begin atomic`) for statements of their own. That
//! does not matter here, because Postgres allows only queries in them.

use std::collections::VecDeque;

/// How many of the first and of the last tokens of a statement are kept.
const OUTLINE_TOKENS: usize = 5;

/// The state of the scanner after a line.
#[derive(Debug, Default)]
pub(super) struct PsqlText {
    inside: Inside,
    /// The number of open parentheses; a semicolon within them does not end the statement.
    depth: u32,
    statement: Statement,
    /// `standard_conforming_strings` is off.
    backslash_escapes: bool,
    /// The last token was a string with escapes; a string that follows on the next line continues it.
    after_escapes: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Inside {
    #[default]
    Nothing,
    /// `/* … */`, with the nesting depth.
    Comment(u32),
    /// `'…'`, with or without backslash escapes.
    Text { escapes: bool },
    /// `"…"`.
    Name,
    /// `$tag$ … $tag$`.
    Dollars(Vec<u8>),
    /// Data of COPY, up to the line `\.`.
    Data,
}

/// The outline of a statement. The token of a quoted name is `"`, that of a string `'`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Statement {
    /// Its first tokens, in lower case.
    first: Vec<String>,
    /// Its last tokens.
    last: VecDeque<String>,
    /// It is a COPY whose data follow.
    reads_data: bool,
}

impl Statement {
    fn push(&mut self, token: String) {
        let begins_with_copy = self.first.first().is_some_and(|first| first == "copy");
        if begins_with_copy && token == "stdin" && self.last.back().is_some_and(|last| last == "from") {
            self.reads_data = true;
        }
        if self.first.len() < OUTLINE_TOKENS {
            self.first.push(token.clone());
        }
        if self.last.len() == OUTLINE_TOKENS {
            self.last.pop_front();
        }
        self.last.push_back(token);
    }

    /// The outline of a statement that psql shows with an error.
    pub(super) fn outline(statement: &str) -> Self {
        let mut text = PsqlText::default();
        let unfinished = statement.trim_end().trim_end_matches(';');
        unfinished.lines().for_each(|line| drop(text.line(line.as_bytes())));
        text.statement
    }

    /// Whether it ends with `owner to ROLE`.
    pub(super) fn ends_with_owner(&self) -> bool {
        let last: Vec<&str> = self.last.iter().map(String::as_str).collect();
        match last[..] {
            // A setting `x.owner`, or the renaming of a column `owner`; but an object may have the name `rename`, and no role is a string.
            [_, ".", "owner", "to", _] | [_, "column", "owner", "to", _] => false,
            [before, "rename", "owner", "to", _] if before != "." && before != "schema" => false,
            [.., "owner", "to", role] => role != "'",
            _ => false,
        }
    }

    /// Whether it begins with these words.
    pub(super) fn begins_with(&self, words: &[&str]) -> bool {
        self.first.len() >= words.len() && self.first.iter().zip(words).all(|(token, word)| token == word)
    }
}

impl PsqlText {
    /// Scans the next line, its end included. Returns its statement if the line is exactly one statement.
    pub(super) fn line(&mut self, line: &[u8]) -> Option<Statement> {
        if self.inside == Inside::Data {
            if line.trim_ascii_end() == b"\\." {
                self.inside = Inside::Nothing;
            }
            return None;
        }
        let alone = self.is_between_statements() && line.first().is_some_and(|byte| !byte.is_ascii_whitespace());
        let mut ended = Vec::new();
        let mut meta_command = false;
        let mut at = 0;
        while at < line.len() {
            if self.inside != Inside::Nothing {
                at = self.quoted(line, at);
            } else if line[at] == b'\\' {
                meta_command = true;
                break;
            } else {
                at = self.plain(line, at, &mut ended);
            }
        }
        let reads_data = ended.last().is_some_and(|statement: &Statement| statement.reads_data);
        if reads_data && self.inside == Inside::Nothing {
            self.inside = Inside::Data;
        }
        let is_one_statement = alone && !meta_command && ended.len() == 1 && self.is_between_statements();
        ended.pop().filter(|_| is_one_statement)
    }

    /// Sets whether plain strings have backslash escapes (`standard_conforming_strings` off).
    pub(super) fn set_backslash_escapes(&mut self, on: bool) {
        self.backslash_escapes = on;
    }

    /// Whether the next line begins outside quotes, comments and data of COPY.
    pub(super) fn is_outside_quotes(&self) -> bool {
        self.inside == Inside::Nothing
    }

    fn is_between_statements(&self) -> bool {
        self.inside == Inside::Nothing && self.depth == 0 && self.statement.first.is_empty()
    }

    /// Scans a byte within quotes or a comment; returns the next position.
    fn quoted(&mut self, line: &[u8], at: usize) -> usize {
        let (byte, next) = (line[at], line.get(at + 1).copied());
        match &mut self.inside {
            Inside::Text { escapes: true } if byte == b'\\' => return at + 2,
            Inside::Text { .. } if byte == b'\'' && next == Some(b'\'') => return at + 2,
            Inside::Text { escapes } if byte == b'\'' => {
                self.after_escapes = *escapes;
                self.inside = Inside::Nothing;
            }
            Inside::Name if byte == b'"' && next == Some(b'"') => return at + 2,
            Inside::Name if byte == b'"' => self.inside = Inside::Nothing,
            Inside::Comment(depth) if byte == b'/' && next == Some(b'*') => {
                *depth += 1;
                return at + 2;
            }
            Inside::Comment(depth) if byte == b'*' && next == Some(b'/') => {
                *depth -= 1;
                if *depth == 0 {
                    self.inside = Inside::Nothing;
                }
                return at + 2;
            }
            Inside::Dollars(tag) if line[at..].starts_with(tag) => {
                let end = at + tag.len();
                self.inside = Inside::Nothing;
                return end;
            }
            _ => {}
        }
        at + 1
    }

    /// Scans a token outside quotes; returns the next position.
    fn plain(&mut self, line: &[u8], at: usize, ended: &mut Vec<Statement>) -> usize {
        let rest = &line[at..];
        let byte = rest[0];
        if byte.is_ascii_whitespace() {
            return at + 1;
        }
        if rest.starts_with(b"--") {
            return line.len();
        }
        if rest.starts_with(b"/*") {
            self.inside = Inside::Comment(1);
            return at + 2;
        }
        let continues_escapes = std::mem::take(&mut self.after_escapes);
        if byte == b'\'' {
            self.inside = Inside::Text { escapes: self.backslash_escapes || continues_escapes };
            self.statement.push("'".to_owned());
            return at + 1;
        }
        if byte == b'"' {
            self.inside = Inside::Name;
            self.statement.push("\"".to_owned());
            return at + 1;
        }
        if let Some(tag) = dollar_tag(rest) {
            self.inside = Inside::Dollars(tag.to_vec());
            self.statement.push("'".to_owned());
            return at + tag.len();
        }
        if begins_word(byte) {
            let length = rest.iter().position(|byte| !continues_word(*byte)).unwrap_or(rest.len());
            let word = String::from_utf8_lossy(&rest[..length]).to_lowercase();
            if word == "e" && rest.get(length) == Some(&b'\'') {
                self.inside = Inside::Text { escapes: true };
                self.statement.push("'".to_owned());
                return at + length + 1;
            }
            self.statement.push(word);
            return at + length;
        }
        match byte {
            b'(' => self.depth += 1,
            b')' => self.depth = self.depth.saturating_sub(1),
            b';' if self.depth == 0 => {
                ended.push(std::mem::take(&mut self.statement));
                return at + 1;
            }
            _ => {}
        }
        // Letters and dollars that follow a digit belong to the number.
        let length = match byte.is_ascii_digit() {
            true => rest.iter().position(|byte| !continues_word(*byte)).unwrap_or(rest.len()),
            false => 1,
        };
        self.statement.push(String::from_utf8_lossy(&rest[..length]).into_owned());
        at + length
    }
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn continues_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// `$$` or `$tag$` at the beginning of `rest`; `$1` is a parameter and no tag.
fn dollar_tag(rest: &[u8]) -> Option<&[u8]> {
    let inner = rest.strip_prefix(b"$")?;
    let length = inner.iter().position(|byte| *byte == b'$')?;
    let tag = &inner[..length];
    let is_tag = tag.first().is_none_or(|byte| begins_word(*byte)) && tag.iter().all(|byte| continues_word(*byte));
    is_tag.then(|| &rest[..length + 2])
}
