//! Removes owners from plain dumps of pg_dump, for a builder that is no superuser and owns everything that it creates.
//!
//! A dump sets the owner of each object in a line of its own, which `pg_dump --no-owner` omits. The copy has empty lines instead, so
//! that the line numbers of psql's errors are those of the user's file. Grants stay; the pool's `roles` are for them.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use tempfile::NamedTempFile;

use super::psql_text::{PsqlText, Statement};

/// The header of a dump.
const HEADER: &[u8] = b"-- PostgreSQL database dump";

/// How many lines of comments may precede the header.
const MAX_LINES_BEFORE_HEADER: usize = 50;

/// A copy of a plain dump without owners; `None` when `file` is no plain dump. Only this user can read the copy, which is deleted when
/// dropped. The function blocks on reading and writing files.
///
/// # Errors
/// The file cannot be read or the copy cannot be written.
pub(super) fn without_owners(file: &Path) -> io::Result<Option<NamedTempFile>> {
    if !is_plain_dump(file)? {
        return Ok(None);
    }
    let mut copy = tempfile::Builder::new().prefix("pgdibs-dump-").suffix(".sql").tempfile()?;
    let mut writer = BufWriter::new(copy.as_file_mut());
    let mut reader = BufReader::new(File::open(file)?);
    let (mut text, mut line) = (PsqlText::default(), Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        writer.write_all(without_owner(&mut text, &line))?;
        line.clear();
    }
    writer.flush()?;
    drop(writer);
    Ok(Some(copy))
}

fn is_plain_dump(file: &Path) -> io::Result<bool> {
    let mut reader = BufReader::new(File::open(file)?);
    let mut line = Vec::new();
    for _ in 0..MAX_LINES_BEFORE_HEADER {
        line.clear();
        // A file that is no text may have no line end.
        if io::Read::take(&mut reader, 64 * 1024).read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        let trimmed = line.trim_ascii();
        if trimmed == HEADER {
            return Ok(true);
        }
        if !(trimmed.is_empty() || trimmed.starts_with(b"--") || trimmed.starts_with(b"\\restrict")) {
            return Ok(false);
        }
    }
    Ok(false)
}

/// The line of the copy: the original line, or only its line end.
pub(super) fn without_owner<'a>(text: &mut PsqlText, line: &'a [u8]) -> &'a [u8] {
    let Some(statement) = text.line_of_one_statement(line) else { return line };
    let trimmed = line.trim_ascii();
    match trimmed {
        b"SET standard_conforming_strings = off;" => text.set_backslash_escapes(true),
        b"SET standard_conforming_strings = on;" => text.set_backslash_escapes(false),
        _ => {}
    }
    let is_left_out = is_about_owners(&statement) || is_of_every_database(trimmed) || is_of_newer_servers(trimmed);
    if is_left_out { &line[line.trim_ascii_end().len()..] } else { line }
}

/// Whether only the original owner or a superuser may run the statement. The daemon's role owns the extensions that the daemon created,
/// and with them their comments.
fn is_about_owners(statement: &Statement) -> bool {
    statement.begins_with(&["alter"]) && statement.ends_with_owner()
        || statement.begins_with(&["set", "session", "authorization"])
        || statement.begins_with(&["comment", "on", "extension"])
}

/// Every database has the schema `public`, with this comment.
fn is_of_every_database(line: &[u8]) -> bool {
    matches!(line, b"CREATE SCHEMA public;" | b"COMMENT ON SCHEMA public IS 'standard public schema';")
}

/// pg_dump 17 and later set it, also in dumps for older servers, which do not know it.
fn is_of_newer_servers(line: &[u8]) -> bool {
    line == b"SET transaction_timeout = 0;"
}
