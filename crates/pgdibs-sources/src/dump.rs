//! Prepares dumps of pg_dump for psql, and for a builder that is no superuser and owns everything that it creates.
//!
//! A dump names the owner of its objects in clauses that `pg_dump --no-owner` omits for the most part. The copy is without them, in lines of
//! the same number, so that the line numbers of psql's errors are those of the user's file. Grants stay; the pool's `roles` are for them.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use tempfile::NamedTempFile;

use super::dump_roles::{DumpRoles, tokens};
use super::psql_text::{PsqlText, Statement};

/// The header of a dump of one database, and of a cluster.
const HEADER: &[u8] = b"-- PostgreSQL database dump";
const HEADER_OF_CLUSTER: &[u8] = b"-- PostgreSQL database cluster dump";

/// Two of the settings with which every dump begins. Programs that keep a dump as their schema file remove the header (Rails, dbmate).
const SETTINGS: [&[u8]; 2] = [b"SET statement_timeout = 0;", b"SET client_encoding = '"];

const RELATIVE_INCLUDES: [&[u8]; 2] = [b"\\ir ", b"\\include_relative "];

/// How many lines may precede the header and the settings.
const MAX_LINES_BEFORE: usize = 200;

/// The beginnings of files that psql cannot read, and what to do.
const UNREADABLE: [(&[u8], &str); 7] = [
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; decompress it: zstd -d"),
    (b"\xfd7zXZ\x00", "is compressed with xz; decompress it: xz -dk"),
    (b"BZh", "is compressed with bzip2; decompress it: bzip2 -dk"),
    (b"\x04\x22\x4d\x18", "is compressed with lz4; decompress it: lz4 -d"),
    (b"PK\x03\x04", "is a zip archive; unpack it: unzip"),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
];

const UTF_16: &str =
    "is in UTF-16, which PowerShell's `>` writes; let pg_dump write the file itself: pg_dump --no-owner --file";

/// What a file is, by its content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// SQL that psql runs as it is.
    Sql,
    /// A plain dump.
    PlainDump,
    /// A dump in the custom, tar or directory format, for pg_restore.
    Archive,
    /// Compressed with gzip.
    Gzip,
    /// psql cannot run it: a sentence without the file's name.
    Unfit(String),
}

/// The file that each dump in the directory format has.
pub(super) const TABLE_OF_CONTENTS: &str = "toc.dat";

/// Whether a file is the table of contents of a dump in the directory format.
pub(super) fn is_table_of_contents(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == TABLE_OF_CONTENTS)
}

/// The format of a file, which commands call `named`. The function blocks on reading it.
///
/// # Errors
/// The file cannot be read.
pub(super) fn format_of(file: &Path, named: &Path) -> io::Result<Format> {
    let mut reader = BufReader::new(File::open(file)?);
    let mut start = Vec::new();
    reader.by_ref().take(512).read_to_end(&mut start)?;
    // The first member of a tar file has its name at the beginning, and "ustar" after 257 bytes.
    let is_tar = start.starts_with(b"toc.dat\0") && start.get(257..262).is_some_and(|magic| magic == b"ustar");
    if start.starts_with(b"PGDMP") || is_tar {
        return Ok(Format::Archive);
    }
    if start.starts_with(b"\x1f\x8b") {
        return Ok(Format::Gzip);
    }
    if let Some((_, remedy)) = UNREADABLE.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Ok(Format::Unfit(format!("{remedy} {}", named.display())));
    }
    let mut reader = start.chain(reader);
    let (mut line, mut settings) = (Vec::new(), [false; 2]);
    for _ in 0..MAX_LINES_BEFORE {
        line.clear();
        // A file that is no text may have no line end.
        if reader.by_ref().take(64 * 1024).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let trimmed = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line).trim_ascii();
        if trimmed == HEADER_OF_CLUSTER {
            return Ok(Format::Unfit(format!(
                "is a dump of a whole cluster (pg_dumpall), with its roles and all its databases; make one of the database alone: \
                 pg_dump --no-owner --file {} DATABASE, and list the roles that it names under `roles` of the pool",
                named.display()
            )));
        }
        for (seen, setting) in settings.iter_mut().zip(SETTINGS) {
            *seen |= trimmed.starts_with(setting);
        }
        if trimmed == HEADER || settings == [true; 2] {
            return Ok(Format::PlainDump);
        }
    }
    Ok(Format::Sql)
}

/// A decompressed copy of a file. Only this user can read the copy, which is deleted when dropped. The function blocks.
///
/// # Errors
/// The file cannot be read, is damaged, or the copy cannot be written.
pub(super) fn decompressed(file: &Path) -> io::Result<NamedTempFile> {
    let mut copy = new_copy()?;
    let mut reader = MultiGzDecoder::new(BufReader::new(File::open(file)?));
    io::copy(&mut reader, copy.as_file_mut())?;
    Ok(copy)
}

/// A copy of a plain dump without owners, except the `roles` that keep what they own. Only this user can read the copy, which is deleted when dropped. The function blocks.
///
/// # Errors
/// The file cannot be read or the copy cannot be written.
pub(super) fn without_owners(file: &Path, roles: &DumpRoles) -> io::Result<NamedTempFile> {
    let mut copy = new_copy()?;
    let mut writer = BufWriter::new(copy.as_file_mut());
    let mut reader = BufReader::new(File::open(file)?);
    let (mut text, mut line) = (PsqlText::default(), Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        let is_command = text.is_outside_quotes();
        let copied = without_owner(&mut text, &line, roles);
        // The path of `\ir` is relative to the file, and the copy is elsewhere.
        let included = RELATIVE_INCLUDES.iter().find_map(|command| line.strip_prefix(*command)).filter(|_| is_command);
        match (included, file.parent().and_then(Path::to_str)) {
            (Some(path), Some(directory)) => {
                write!(writer, "\\i '{}'/", directory.replace('\'', "''"))?;
                writer.write_all(path.trim_ascii_start())?;
            }
            _ => writer.write_all(&copied)?,
        }
        line.clear();
    }
    writer.flush()?;
    drop(writer);
    Ok(copy)
}

/// An empty file for a copy.
///
/// # Errors
/// It cannot be created.
pub(super) fn new_copy() -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix("pgdibs-dump-").suffix(".sql").tempfile()
}

/// The line of the copy: the original line, one without the clauses about owners, or only its line end.
pub(super) fn without_owner<'a>(text: &mut PsqlText, line: &'a [u8], roles: &DumpRoles) -> Cow<'a, [u8]> {
    let Some(statement) = text.line_of_one_statement(line) else { return Cow::Borrowed(line) };
    let trimmed = line.trim_ascii();
    match trimmed {
        b"SET standard_conforming_strings = off;" => text.set_backslash_escapes(true),
        b"SET standard_conforming_strings = on;" => text.set_backslash_escapes(false),
        _ => {}
    }
    if roles.keep_owner(&statement, line) {
        return roles.renamed(&statement, line).map_or(Cow::Borrowed(line), Cow::Owned);
    }
    if is_about_owners(&statement) || is_of_every_database(trimmed) || is_of_newer_servers(&statement) {
        return Cow::Borrowed(&line[line.trim_ascii_end().len()..]);
    }
    // The pool may list an extension with this schema, which exists then.
    if let Some(name) = line.strip_prefix(b"CREATE SCHEMA ")
        && !name.starts_with(b"IF ")
        && !name.to_ascii_lowercase().windows(13).any(|word| word == b"authorization")
    {
        return Cow::Owned([b"CREATE SCHEMA IF NOT EXISTS ", name, roles.grants_in(name)].concat());
    }
    let without = without_owner_clause(&statement, line).map_or(Cow::Borrowed(line), Cow::Owned);
    roles.renamed(&statement, &without).map_or(without, Cow::Owned)
}

/// Whether only the original owner or a superuser may run the statement. The daemon's role owns the extensions that the daemon created,
/// and with them their comments.
fn is_about_owners(statement: &Statement) -> bool {
    statement.begins_with(&["alter"]) && statement.ends_with_owner()
        || statement.begins_with(&["set", "session", "authorization"])
        || statement.begins_with(&["set", "role"])
        || statement.begins_with(&["comment", "on", "extension"])
}

/// Every database has the schema `public`, with this comment.
fn is_of_every_database(line: &[u8]) -> bool {
    matches!(line, b"CREATE SCHEMA public;" | b"COMMENT ON SCHEMA public IS 'standard public schema';")
}

/// pg_dump 17 and later set it, also in dumps for older servers, which do not know it.
fn is_of_newer_servers(statement: &Statement) -> bool {
    statement.begins_with(&["set", "transaction_timeout"])
}

/// The statement without a clause that names an owner, so that the builder takes his place; `None` if there is none.
fn without_owner_clause(statement: &Statement, line: &[u8]) -> Option<Vec<u8>> {
    // (Words before the owner's name; whether the name stays.)
    let (words, keeps_name): (&[&str], bool) = if statement.begins_with(&["alter", "default", "privileges", "for"]) {
        let word =
            if statement.begins_with(&["alter", "default", "privileges", "for", "user"]) { "user" } else { "role" };
        (if word == "user" { &["for", "user"] } else { &["for", "role"] }, false)
    } else if statement.begins_with(&["create", "schema", "authorization"]) {
        // A schema without a name has that of its owner.
        (&["authorization"], true)
    } else if statement.begins_with(&["create", "schema"]) {
        (&["authorization"], false)
    } else if statement.begins_with(&["grant"]) || statement.begins_with(&["revoke"]) {
        (&["granted", "by"], false)
    } else {
        return None;
    };
    let tokens = tokens(line);
    let is_word =
        |token: &std::ops::Range<usize>, word: &str| line[token.clone()].eq_ignore_ascii_case(word.as_bytes());
    let at = tokens
        .windows(words.len())
        .position(|window| window.iter().zip(words).all(|(token, word)| is_word(token, word)))?;
    let name = tokens.get(at + words.len()).filter(|name| line[name.start] != b';')?;
    let mut end = if keeps_name { name.start } else { name.end };
    let mut more = tokens[at + words.len() + 1..].chunks(2);
    while let Some([comma, name]) = more.next()
        && &line[comma.clone()] == b","
    {
        end = name.end;
    }
    // The blank before the clause goes with it.
    let begin = if keeps_name { tokens[at].start } else { tokens[at - 1].end };
    Some([&line[..begin], &line[end..]].concat())
}
