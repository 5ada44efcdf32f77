//! Plain dumps of pg_dump, made fit for a builder that is no superuser and owns everything it makes.
//!
//! A dump says who owned each object, in one line each. These lines are left empty, as `pg_dump --no-owner` would leave them
//! out, so the line numbers of psql's errors are those of the user's file. Grants stay: the pool's `roles` are for them.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use tempfile::NamedTempFile;

use super::psql_text::{PsqlText, Statement};

/// What pg_dump writes at the top.
const HEADER: &[u8] = b"-- PostgreSQL database dump";

/// The header is looked for among this many lines of comments.
const HEADER_WITHIN: usize = 50;

/// A copy of `file` without its owners, for psql to read, when it is a plain dump; `None` when it is any other file. The copy is
/// readable by its owner alone, and gone when dropped. It reads and writes files, so call it where blocking is allowed.
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
        writer.write_all(kept(&mut text, &line))?;
        line.clear();
    }
    writer.flush()?;
    drop(writer);
    Ok(Some(copy))
}

fn is_plain_dump(file: &Path) -> io::Result<bool> {
    let mut reader = BufReader::new(File::open(file)?);
    let mut line = Vec::new();
    for _ in 0..HEADER_WITHIN {
        line.clear();
        // A file that is no text may hold no line end for long.
        if io::Read::take(&mut reader, 64 * 1024).read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        let said = line.trim_ascii();
        if said == HEADER {
            return Ok(true);
        }
        if !(said.is_empty() || said.starts_with(b"--") || said.starts_with(b"\\restrict")) {
            return Ok(false);
        }
    }
    Ok(false)
}

/// The line as psql is to read it: as it is, or its end alone.
pub(super) fn kept<'a>(text: &mut PsqlText, line: &'a [u8]) -> &'a [u8] {
    let Some(statement) = text.line(line) else { return line };
    let said = line.trim_ascii();
    match said {
        b"SET standard_conforming_strings = off;" => text.set_backslash_escapes(true),
        b"SET standard_conforming_strings = on;" => text.set_backslash_escapes(false),
        _ => {}
    }
    let is_left_out = is_about_owners(&statement) || is_of_every_database(said) || is_of_newer_servers(said);
    if is_left_out { &line[line.trim_ascii_end().len()..] } else { line }
}

/// What only the owner of the original, or a superuser, may say. The comment on an extension that the daemon made belongs to
/// the daemon's own role.
fn is_about_owners(statement: &Statement) -> bool {
    statement.begins_with(&["alter"]) && statement.ends_with_owner()
        || statement.begins_with(&["set", "session", "authorization"])
        || statement.begins_with(&["comment", "on", "extension"])
}

/// Schema `public` is there already, with this comment.
fn is_of_every_database(line: &[u8]) -> bool {
    matches!(line, b"CREATE SCHEMA public;" | b"COMMENT ON SCHEMA public IS 'standard public schema';")
}

/// pg_dump sets it to its default from version 17 on, also in dumps for older servers, which do not know it.
fn is_of_newer_servers(line: &[u8]) -> bool {
    line == b"SET transaction_timeout = 0;"
}
