//! The output of a build in bounded memory: its size, its first and last part, and psql's first error.

/// How many bytes of the beginning are kept, and how many of the end at least; fewer in tests, which go beyond it often.
pub(crate) const KEPT_BYTES: usize = if cfg!(test) { 64 * 1024 } else { 1024 * 1024 };
/// How many bytes of the end are shown at most.
pub(crate) const SHOWN_BYTES: usize = 64 * 1024;
/// How many of the last lines are shown.
pub(crate) const SHOWN_LINES: usize = 40;
/// How many bytes are kept from psql's first error on.
const KEPT_OF_ERROR: usize = 16 * 1024;
/// How many bytes of a line are compared with the form of psql's errors.
const LINE_START: usize = 1024;

/// The output of one program, or of all programs of a build. It holds about 3 MiB at most.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    head: Vec<u8>,
    /// What follows the head, without its beginning if that was cut.
    tail: Vec<u8>,
    cut: u64,
    bytes: u64,
    newlines: u64,
    ends_in_newline: bool,
    watches_for_errors: bool,
    line_start: Vec<u8>,
    error: Vec<u8>,
    error_begun: bool,
}

impl Capture {
    /// For psql: its first error is kept, however much output follows.
    pub(crate) fn of_psql() -> Self {
        Self { watches_for_errors: true, ..Self::default() }
    }

    /// Adds the next bytes.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        let Some(last) = chunk.last() else { return };
        self.bytes += chunk.len() as u64;
        self.ends_in_newline = *last == b'\n';
        self.newlines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
        if self.watches_for_errors {
            chunk.split_inclusive(|byte| *byte == b'\n').for_each(|part| self.push_part_of_line(part));
        }
        let (head, rest) = chunk.split_at(chunk.len().min(KEPT_BYTES.saturating_sub(self.head.len())));
        self.head.extend_from_slice(head);
        self.tail.extend_from_slice(rest);
        if self.tail.len() > 2 * KEPT_BYTES {
            let cut = self.tail.len() - KEPT_BYTES;
            self.tail.drain(..cut);
            self.cut += cut as u64;
        }
    }

    fn push_part_of_line(&mut self, part: &[u8]) {
        if self.error_begun {
            let free = KEPT_OF_ERROR.saturating_sub(self.error.len());
            self.error.extend_from_slice(&part[..part.len().min(free)]);
        } else {
            let free = LINE_START.saturating_sub(self.line_start.len());
            self.line_start.extend_from_slice(&part[..part.len().min(free)]);
            if is_error_of_psql(&self.line_start) {
                self.error_begun = true;
                self.error = std::mem::take(&mut self.line_start);
            }
        }
        if part.ends_with(b"\n") {
            self.line_start.clear();
        }
    }

    /// The size of the output.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number of lines.
    pub(crate) fn line_count(&self) -> u64 {
        self.newlines + u64::from(self.bytes > 0 && !self.ends_in_newline)
    }

    /// The output, without `secrets`, control characters, and the middle of a long one.
    pub(crate) fn text(&self, secrets: &[String]) -> String {
        if self.cut == 0 {
            return readable(&[self.head.as_slice(), &self.tail].concat(), secrets);
        }
        // At the gap there may be a part of a secret, which `readable` cannot recognise.
        let (mut text, tail) = (readable(&self.head, secrets), readable(&self.tail, secrets));
        text.truncate(text.floor_char_boundary(text.len().saturating_sub(longest(secrets))));
        text.push_str(&format!("\n({} bytes left out)\n", self.cut));
        text.push_str(&tail[tail.ceil_char_boundary(longest(secrets))..]);
        text
    }

    /// The last lines, without `secrets` and control characters, and the number of those before.
    pub(crate) fn last_lines(&self, secrets: &[String]) -> String {
        let mut text = self.text(secrets);
        if text.len() > SHOWN_BYTES {
            let from = text.ceil_char_boundary(text.len() - SHOWN_BYTES);
            let whole_line = text[from..].find('\n').map_or(from, |newline| from + newline + 1);
            text.drain(..if whole_line < text.len() { whole_line } else { from });
        }
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        let left_out = self.line_count().saturating_sub(shown.len() as u64);
        let mut all = String::new();
        if left_out > 0 {
            all.push_str(&format!("({left_out} earlier lines left out)\n"));
        }
        all.push_str(&shown.join("\n"));
        all
    }

    /// The output from psql's first error on.
    pub(crate) fn first_error(&self, secrets: &[String]) -> Option<String> {
        let mut text = self.error_begun.then(|| readable(&self.error, secrets))?;
        if self.error.len() == KEPT_OF_ERROR {
            // It may end with the beginning of a secret, which `readable` cannot recognise.
            text.truncate(text.floor_char_boundary(text.len().saturating_sub(longest(secrets))));
        }
        Some(text)
    }

    /// The size of its buffers.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.head.capacity() + self.tail.capacity() + self.error.capacity() + self.line_start.capacity()
    }
}

/// Whether a line has the form `psql:FILE:LINE: ERROR:` or `psql: error:`; the text after it depends on the server's language.
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
    // The longest first: a shorter one that is its prefix would leave the rest of it.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        text = text.replace(secret, "********");
    }
    // A progress bar rewrites its line with carriage returns; each state becomes a line.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !c.is_control()).collect()
}

fn longest(secrets: &[String]) -> usize {
    secrets.iter().map(String::len).max().unwrap_or(0)
}
