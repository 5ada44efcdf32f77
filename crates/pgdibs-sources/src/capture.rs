//! The output of a build, kept within bounds: the last part of it, its size, and where psql first named an error.

/// How much of the end is kept.
pub(crate) const KEPT_BYTES: usize = 64 * 1024;
/// How many lines of it are shown.
pub(crate) const SHOWN_LINES: usize = 40;
/// How much is kept from the first error of psql on.
const KEPT_OF_ERROR: usize = 16 * 1024;
/// How much of a line is looked at to tell whether it is an error of psql.
const LINE_START: usize = 1024;

/// Output as it comes. It holds at most about 150 KiB however much comes.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    tail: Vec<u8>,
    cut: bool,
    bytes: u64,
    newlines: u64,
    ends_in_newline: bool,
    watches_for_errors: bool,
    line_start: Vec<u8>,
    error: Vec<u8>,
    error_begun: bool,
}

impl Capture {
    /// For a program that is psql: its first error is kept wherever it comes.
    pub(crate) fn of_psql() -> Self {
        Self { watches_for_errors: true, ..Self::default() }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        let Some(last) = chunk.last() else { return };
        self.bytes += chunk.len() as u64;
        self.ends_in_newline = *last == b'\n';
        self.newlines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
        if self.watches_for_errors {
            chunk.split_inclusive(|byte| *byte == b'\n').for_each(|part| self.push_part_of_line(part));
        }
        self.tail.extend_from_slice(chunk);
        if self.tail.len() > 2 * KEPT_BYTES {
            self.tail.drain(..self.tail.len() - KEPT_BYTES);
            self.cut = true;
        }
    }

    fn push_part_of_line(&mut self, part: &[u8]) {
        if self.error_begun {
            let waiter_limit = KEPT_OF_ERROR.saturating_sub(self.error.len());
            self.error.extend_from_slice(&part[..part.len().min(waiter_limit)]);
        } else {
            let waiter_limit = LINE_START.saturating_sub(self.line_start.len());
            self.line_start.extend_from_slice(&part[..part.len().min(waiter_limit)]);
            if is_error_of_psql(&self.line_start) {
                self.error_begun = true;
                self.error = std::mem::take(&mut self.line_start);
            }
        }
        if part.ends_with(b"\n") {
            self.line_start.clear();
        }
    }

    /// How many bytes came.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many lines came.
    pub(crate) fn lines(&self) -> u64 {
        self.newlines + u64::from(self.bytes > 0 && !self.ends_in_newline)
    }

    /// The last lines as text for people, without `secrets` and control characters; what came before is counted.
    pub(crate) fn last_lines(&self, secrets: &[String]) -> String {
        let mut text = readable(&self.tail, secrets);
        if self.cut || text.len() > KEPT_BYTES {
            // The kept part may begin with the end of a secret, which is then not recognised.
            let partial = if self.cut { longest(secrets) } else { 0 };
            let from = text.len().saturating_sub(KEPT_BYTES).max(partial);
            let from = text.ceil_char_boundary(from);
            let whole_line = text[from..].find('\n').map_or(from, |newline| from + newline + 1);
            text.drain(..if whole_line < text.len() { whole_line } else { from });
        }
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        let left_out = self.lines().saturating_sub(shown.len() as u64);
        let mut all = String::new();
        if left_out > 0 {
            all.push_str(&format!("({left_out} earlier lines left out)\n"));
        }
        all.push_str(&shown.join("\n"));
        all
    }

    /// The output from psql's first error on, if there is one.
    pub(crate) fn first_error(&self, secrets: &[String]) -> Option<String> {
        let mut text = self.error_begun.then(|| readable(&self.error, secrets))?;
        if self.error.len() == KEPT_OF_ERROR {
            // It may end with the beginning of a secret.
            text.truncate(text.floor_char_boundary(text.len().saturating_sub(longest(secrets))));
        }
        Some(text)
    }

    /// How much memory it holds.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.tail.capacity() + self.error.capacity() + self.line_start.capacity()
    }
}

/// `psql:FILE:LINE: ERROR:` and `psql: error:`; told by form, since the words after it depend on the server's language.
fn is_error_of_psql(line: &[u8]) -> bool {
    if !line.starts_with(b"psql:") {
        return false;
    }
    let contains = |word: &[u8]| line.windows(word.len()).any(|window| window == word);
    contains(b": ERROR: ") || contains(b": FATAL: ") || contains(b": error: ") || contains(b"psql: error:")
}

fn readable(bytes: &[u8], secrets: &[String]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    let mut secrets: Vec<&str> = secrets.iter().map(String::as_str).filter(|secret| !secret.is_empty()).collect();
    // Else the rest of a longer one would stay where a shorter one begins it.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        text = text.replace(secret, "********");
    }
    // A progress bar returns to the start of its line; each state of it is a line here.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !c.is_control()).collect()
}

fn longest(secrets: &[String]) -> usize {
    secrets.iter().map(String::len).max().unwrap_or(0)
}
