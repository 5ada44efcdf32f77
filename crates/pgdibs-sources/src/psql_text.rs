//! Scans text as psql does, line by line: quotes, data of COPY, the boundaries of statements, and psql's own commands.
//!
//! It has no grammar of SQL. A parser of SQL cannot take its place: psql decides where a statement ends, and its commands, its variables
//! and the data of COPY are no SQL.

use std::collections::VecDeque;

/// How many of the first and of the last tokens of a statement are kept.
const OUTLINE_TOKENS: usize = 5;

/// The state of the scanner after a line.
#[derive(Debug, Default)]
pub(super) struct PsqlText {
    inside: Inside,
    /// The number of open parentheses; a semicolon within them does not end the statement.
    depth: u32,
    /// The same for `begin … end` and `case … end` in the body of a function in standard SQL.
    begin_depth: u32,
    statement: Statement,
    /// `standard_conforming_strings` is off.
    backslash_escapes: bool,
    /// The last token was a string with escapes; a string that follows on the next line continues it.
    after_escapes: bool,
    /// How many lines were scanned.
    lines: usize,
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

/// What psql acts on, in its order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A statement has ended.
    Statement(Statement),
    /// A command such as `\i`.
    Command(Command),
}

/// A command of psql.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// Its name, without the backslash.
    pub(super) name: String,
    /// Its arguments without quotes; `None` for one that depends on a variable or a program. For `\copy`: the text as it is.
    pub(super) arguments: Vec<Option<String>>,
}

/// The outline of a statement. The token of a quoted name is `"`, that of a string `'`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Statement {
    /// The line of its first token, from 1.
    pub(super) line: usize,
    /// Its first tokens, in lower case.
    first: Vec<String>,
    /// Its last tokens.
    last: VecDeque<String>,
    /// It is a COPY whose data follow.
    reads_data: bool,
}

impl Statement {
    fn push(&mut self, token: &str) {
        // Reused, because a dump has many tokens.
        let mut kept = match self.last.len() {
            OUTLINE_TOKENS => self.last.pop_front().unwrap_or_default(),
            _ => String::new(),
        };
        kept.clear();
        kept.push_str(token);
        kept.make_ascii_lowercase();
        let begins_with_copy = self.first.first().is_some_and(|first| first == "copy");
        if begins_with_copy && kept == "stdin" && self.last.back().is_some_and(|last| last == "from") {
            self.reads_data = true;
        }
        if self.first.len() < OUTLINE_TOKENS {
            self.first.push(kept.clone());
        }
        self.last.push_back(kept);
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

    /// Whether it ends with these words.
    pub(super) fn ends_with(&self, words: &[&str]) -> bool {
        self.last.len() >= words.len()
            && self.last.iter().rev().zip(words.iter().rev()).all(|(token, word)| token == word)
    }

    /// Whether psql takes the words `begin` and `end` in it for those of a function's body.
    fn has_body(&self) -> bool {
        let words: Vec<&str> = self.first.iter().map(String::as_str).collect();
        matches!(
            words[..],
            ["create", "function" | "procedure", ..] | ["create", "or", "replace", "function" | "procedure", ..]
        )
    }
}

impl PsqlText {
    /// Scans the next line, its end included. Returns what psql acts on in it.
    pub(super) fn line(&mut self, line: &[u8]) -> Vec<Item> {
        self.lines += 1;
        let mut items = Vec::new();
        if self.inside == Inside::Data {
            if line.trim_ascii_end() == b"\\." {
                self.inside = Inside::Nothing;
            }
            return items;
        }
        let mut at = 0;
        while at < line.len() {
            at = match (&self.inside, &line[at..]) {
                (Inside::Nothing, [b'\\', b';', ..]) => {
                    items.push(Item::Statement(self.end()));
                    at + 2
                }
                (Inside::Nothing, [b'\\', b':', ..]) => at + 2,
                (Inside::Nothing, [b'\\', ..]) => self.command(line, at + 1, &mut items),
                (Inside::Nothing, _) => self.plain(line, at, &mut items),
                _ => self.quoted(line, at),
            };
        }
        let reads_data = match items.last() {
            Some(Item::Statement(statement)) => statement.reads_data,
            Some(Item::Command(command)) => command.reads_data(),
            None => false,
        };
        if reads_data && self.inside == Inside::Nothing {
            self.inside = Inside::Data;
        }
        items
    }

    /// Scans the next line. Returns its statement if the line is exactly one statement.
    pub(super) fn line_of_one_statement(&mut self, line: &[u8]) -> Option<Statement> {
        let alone = self.is_between_statements() && line.first().is_some_and(|byte| !byte.is_ascii_whitespace());
        let mut items = self.line(line);
        let is_between = self.is_between_statements() || self.inside == Inside::Data;
        match (items.pop(), items.is_empty() && alone && is_between) {
            (Some(Item::Statement(statement)), true) if !statement.reads_data => Some(statement),
            _ => None,
        }
    }

    /// The statement at the end of the text that no semicolon ends; psql runs it too.
    pub(super) fn unfinished(self) -> Option<Statement> {
        (!self.statement.first.is_empty()).then_some(self.statement)
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

    fn end(&mut self) -> Statement {
        (self.depth, self.begin_depth) = (0, 0);
        std::mem::take(&mut self.statement)
    }

    fn push(&mut self, token: &str) {
        if self.statement.first.is_empty() {
            self.statement.line = self.lines;
        }
        self.statement.push(token);
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
    fn plain(&mut self, line: &[u8], at: usize, items: &mut Vec<Item>) -> usize {
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
        // psql skips a byte order mark at the beginning of a file.
        if self.lines == 1 && at == 0 && rest.starts_with(b"\xef\xbb\xbf") {
            return at + 3;
        }
        let continues_escapes = std::mem::take(&mut self.after_escapes);
        if byte == b'\'' {
            self.inside = Inside::Text { escapes: self.backslash_escapes || continues_escapes };
            self.push("'");
            return at + 1;
        }
        if byte == b'"' {
            self.inside = Inside::Name;
            self.push("\"");
            return at + 1;
        }
        if let Some(tag) = dollar_tag(rest) {
            self.inside = Inside::Dollars(tag.to_vec());
            self.push("'");
            return at + tag.len();
        }
        if begins_word(byte) {
            let length = rest.iter().position(|byte| !continues_word(*byte)).unwrap_or(rest.len());
            let word = &rest[..length];
            if word.eq_ignore_ascii_case(b"e") && rest.get(length) == Some(&b'\'') {
                self.inside = Inside::Text { escapes: true };
                self.push("'");
                return at + length + 1;
            }
            if word.eq_ignore_ascii_case(b"begin") && self.depth == 0 && self.statement.has_body() {
                self.begin_depth += 1;
            } else if word.eq_ignore_ascii_case(b"case") && self.begin_depth > 0 {
                self.begin_depth += 1;
            } else if word.eq_ignore_ascii_case(b"end") {
                self.begin_depth = self.begin_depth.saturating_sub(1);
            }
            self.push(&String::from_utf8_lossy(word));
            return at + length;
        }
        match byte {
            b'(' => self.depth += 1,
            b')' => self.depth = self.depth.saturating_sub(1),
            b';' if self.depth == 0 && self.begin_depth == 0 => {
                items.push(Item::Statement(self.end()));
                return at + 1;
            }
            _ => {}
        }
        // Letters and dollars that follow a digit belong to the number.
        let length = match byte.is_ascii_digit() {
            true => rest.iter().position(|byte| !continues_word(*byte)).unwrap_or(rest.len()),
            false => 1,
        };
        self.push(&String::from_utf8_lossy(&rest[..length]));
        at + length
    }

    /// Scans a command of psql, whose name begins at `at`; returns the position after it. Its arguments do not extend beyond the line.
    fn command(&mut self, line: &[u8], at: usize, items: &mut Vec<Item>) -> usize {
        let rest = line[at..].trim_ascii_end();
        let ends_name = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\\';
        let length = rest.iter().position(ends_name).unwrap_or(rest.len());
        let name = String::from_utf8_lossy(&rest[..length]).into_owned();
        match name.as_str() {
            "g" | "gx" | "gexec" | "gset" | "watch" | "crosstabview" if !self.statement.first.is_empty() => {
                items.push(Item::Statement(self.end()));
            }
            "r" | "reset" => drop(self.end()),
            _ => {}
        }
        if matches!(name.as_str(), "copy" | "!") {
            let text = String::from_utf8_lossy(rest[length..].trim_ascii()).into_owned();
            items.push(Item::Command(Command { name, arguments: vec![Some(text)] }));
            return line.len();
        }
        let (mut arguments, mut next) = (Vec::new(), length);
        loop {
            next += rest[next..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            if next >= rest.len() || rest[next] == b'\\' {
                break;
            }
            let (argument, length) = argument(&rest[next..]);
            arguments.push(argument);
            next += length;
        }
        items.push(Item::Command(Command { name, arguments }));
        match rest.get(next..) {
            Some([b'\\', b'\\', ..]) => at + next + 2,
            Some([b'\\', ..]) => at + next,
            _ => line.len(),
        }
    }
}

impl Command {
    /// Whether it is `\copy … from stdin`, whose data follow.
    fn reads_data(&self) -> bool {
        self.copied_from().is_some_and(|(word, is_quoted)| !is_quoted && word.eq_ignore_ascii_case("stdin"))
    }

    /// The file from which `\copy` reads.
    pub(super) fn copied_file(&self) -> Option<String> {
        let (word, is_quoted) = self.copied_from()?;
        let is_no_file = ["stdin", "pstdin", "program"].iter().any(|other| word.eq_ignore_ascii_case(other));
        (is_quoted || !is_no_file).then_some(word)
    }

    /// The word after the `from` of `\copy`, and whether it is quoted.
    fn copied_from(&self) -> Option<(String, bool)> {
        let text = self.arguments.first().filter(|_| self.name == "copy")?.as_deref()?;
        // A query to be copied is in parentheses, and is never copied from.
        let (before, after) = text.split_at(find_word(text, "from")?);
        if before.trim_start().starts_with('(') {
            return None;
        }
        let after = after["from".len()..].trim_start();
        let (word, _) = argument(after.as_bytes());
        Some((word?.trim_end_matches(';').to_owned(), after.starts_with('\'')))
    }
}

fn find_word(text: &str, word: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    let is_end = |byte: Option<&u8>| byte.is_none_or(|byte| !continues_word(*byte));
    let mut places = lower.match_indices(word).map(|(at, _)| at);
    places.find(|at| is_end(lower.as_bytes()[..*at].last()) && is_end(lower.as_bytes().get(at + word.len())))
}

/// The argument of a command at the beginning of `rest`, and its length: quoted and unquoted parts up to a blank or a backslash.
fn argument(rest: &[u8]) -> (Option<String>, usize) {
    let (mut text, mut is_known, mut at) = (Vec::new(), true, 0);
    while at < rest.len() && !rest[at].is_ascii_whitespace() && rest[at] != b'\\' {
        match rest[at] {
            quote @ (b'\'' | b'`') => {
                is_known &= quote == b'\'';
                at += 1;
                while at < rest.len() && (rest[at] != quote || quote == b'\'' && rest.get(at + 1) == Some(&quote)) {
                    // An escape such as `\n` is in no usual path.
                    is_known &= rest[at] != b'\\';
                    at += usize::from(rest[at] == quote);
                    text.push(rest[at]);
                    at += 1;
                }
                at += 1;
            }
            // `:name` stands for a variable.
            byte => {
                is_known &= byte != b':';
                text.push(byte);
                at += 1;
            }
        }
    }
    (String::from_utf8(text).ok().filter(|_| is_known), at.min(rest.len()))
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
