//! What pgdibs reads from an SQL file besides its digest: marks of migration tools, included files, transactions, and what ends the file early.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::psql_text::{Command, Item, PsqlText, Statement};
use super::tools::{self, Tool};

/// The first bytes of a gzip file and of a dump in the custom format, which have no lines. A tar file has zeros.
const BINARY: [&[u8]; 2] = [b"\x1f\x8b", b"PGDMP"];

/// How deep files may include each other here; psql has no limit but that of open files.
const MAX_DEPTH: usize = 32;

/// What an SQL file contains.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    /// The first mark of a migration tool: its line, its text, and the tool.
    pub(super) mark: Option<(usize, String, &'static Tool)>,
    /// The first command because of which psql does not do what the file says, without an error: its line, and a sentence.
    pub(super) stop: Option<(usize, String)>,
    events: Vec<Event>,
}

#[derive(Debug, Clone)]
enum Event {
    /// A transaction begins in this line.
    Begin(usize),
    End,
    Include(Include),
}

#[derive(Debug, Clone)]
struct Include {
    path: String,
    /// Relative to the including file (`\ir`), not to psql's working directory.
    is_relative: bool,
    /// Data of `\copy`, not SQL.
    is_data: bool,
}

/// A file that an SQL file includes.
#[derive(Debug)]
pub(super) struct Included {
    pub(super) path: PathBuf,
    /// It is SQL, and not data.
    pub(super) is_sql: bool,
}

impl Script {
    /// Reads a file to its end and adds its bytes to `hash`.
    pub(super) fn read(mut reader: impl BufRead, hash: &mut Sha256) -> io::Result<Self> {
        let start = reader.fill_buf()?;
        if BINARY.iter().any(|magic| start.starts_with(magic)) || start.iter().take(512).any(|byte| *byte == 0) {
            io::copy(&mut reader, hash)?;
            return Ok(Self::default());
        }
        let (mut text, mut line, mut reading) = (PsqlText::default(), Vec::new(), Reading::default());
        while reader.read_until(b'\n', &mut line)? > 0 {
            hash.update(&line);
            reading.line += 1;
            if reading.script.mark.is_none()
                && text.is_outside_quotes()
                && let Some(tool) = tools::of_line(&line)
            {
                let shown = String::from_utf8_lossy(&line).trim().trim_start_matches('\u{feff}').to_owned();
                reading.script.mark = Some((reading.line, shown, tool));
            }
            for item in text.line(&line) {
                reading.item(&item);
            }
            line.clear();
        }
        if let Some(statement) = text.unfinished() {
            reading.item(&Item::Statement(statement));
        }
        Ok(reading.script)
    }

    /// The files that it includes; `file` is itself, and psql runs in `directory`.
    pub(super) fn included<'a>(&'a self, file: &'a Path, directory: &'a Path) -> impl Iterator<Item = Included> + 'a {
        self.events.iter().filter_map(move |event| match event {
            Event::Include(include) => Some(include.resolve(file, directory)),
            Event::Begin(_) | Event::End => None,
        })
    }
}

impl Include {
    fn resolve(&self, file: &Path, directory: &Path) -> Included {
        let from = if self.is_relative { file.parent().unwrap_or(directory) } else { directory };
        Included { path: from.join(&self.path), is_sql: !self.is_data }
    }
}

/// The file and the line of the `begin` whose transaction is open at the end of `file`, as far as the text shows it.
pub(super) fn open_transaction(file: &Path, directory: &Path) -> Option<(PathBuf, usize)> {
    let mut open = None;
    follow(file, directory, &mut open, 0);
    open
}

fn follow(file: &Path, directory: &Path, open: &mut Option<(PathBuf, usize)>, depth: usize) {
    let Ok(opened) = File::open(file) else { return };
    let Ok(script) = Script::read(BufReader::new(opened), &mut Sha256::new()) else { return };
    for event in &script.events {
        match event {
            // A second `begin` is only a warning.
            Event::Begin(line) => {
                open.get_or_insert_with(|| (file.to_owned(), *line));
            }
            Event::End => *open = None,
            Event::Include(include) if depth < MAX_DEPTH && !include.is_data => {
                follow(&include.resolve(file, directory).path, directory, open, depth + 1);
            }
            Event::Include(_) => {}
        }
    }
}

/// A script that is being read.
#[derive(Debug, Default)]
struct Reading {
    script: Script,
    line: usize,
    /// The depth of `\if`.
    conditions: usize,
    /// A `\q` after which nothing followed yet.
    quit: Option<(usize, String)>,
    /// The line of the open transaction's `begin`.
    open: Option<usize>,
}

impl Reading {
    fn item(&mut self, item: &Item) {
        if let Some((line, name)) = self.quit.take() {
            self.stop(
                line,
                format!("`\\{name}` ends the file here without an error, so psql skips the rest of it; remove it"),
            );
        }
        match item {
            Item::Statement(statement) => self.statement(statement),
            Item::Command(command) => self.command(command),
        }
    }

    fn statement(&mut self, statement: &Statement) {
        let begins_with_one_of = |all: &[&[&str]]| all.iter().any(|words| statement.begins_with(words));
        if begins_with_one_of(&[&["begin"], &["start", "transaction"]]) {
            self.start_transaction(statement.line);
        } else if begins_with_one_of(&[&["commit"], &["end"], &["rollback"], &["abort"], &["prepare", "transaction"]])
            && !begins_with_one_of(&[
                &["rollback", "to"],
                &["rollback", "work", "to"],
                &["rollback", "transaction", "to"],
                &["commit", "prepared"],
                &["rollback", "prepared"],
            ])
        {
            self.script.events.push(Event::End);
            self.open = None;
            if statement.ends_with(&["and", "chain"]) {
                self.start_transaction(statement.line);
            }
        }
    }

    fn start_transaction(&mut self, line: usize) {
        self.script.events.push(Event::Begin(line));
        self.open.get_or_insert(line);
    }

    fn command(&mut self, command: &Command) {
        let path = || command.arguments.first().cloned().flatten();
        match command.name.as_str() {
            "if" => self.conditions += 1,
            "endif" => self.conditions = self.conditions.saturating_sub(1),
            // A condition says when the file is to end early.
            "q" | "quit" if self.conditions == 0 => self.quit = Some((self.line, command.name.clone())),
            "c" | "connect" if self.conditions == 0 => {
                if let Some(begin) = self.open.take() {
                    let reason = format!(
                        "`\\{}` ends the session, and with it the transaction that begins in line {begin}, which is rolled back; add `commit;` \
                         before it",
                        command.name
                    );
                    self.stop(self.line, reason);
                }
                self.script.events.push(Event::End);
            }
            "i" | "include" => self.include(path(), false, false),
            "ir" | "include_relative" => self.include(path(), true, false),
            "copy" => self.include(command.copied_file(), false, true),
            _ => {}
        }
    }

    /// A path that is not known, because a variable is in it, is passed over.
    fn include(&mut self, path: Option<String>, is_relative: bool, is_data: bool) {
        let Some(path) = path else { return };
        // As psql does with an argument that is a file's name.
        let path = path.trim_end_matches(';').to_owned();
        self.script.events.push(Event::Include(Include { path, is_relative, is_data }));
    }

    fn stop(&mut self, line: usize, reason: String) {
        self.script.stop.get_or_insert((line, reason));
    }
}
