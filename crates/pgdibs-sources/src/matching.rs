//! Which files a glob names now, and which directories have to be watched for that to change.
//!
//! The `glob` crate matches names; the walk is our own because the directories it connected to are needed.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

/// `*` takes no hidden files: editors and version control put theirs beside the ones that are meant.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// A glob, a file, or the SQL files of a directory.
#[derive(Debug)]
pub(crate) struct Matcher {
    root: PathBuf,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    /// A name without wildcards.
    Name(String),
    /// A name with wildcards.
    Wild(Pattern),
    /// `**`: any number of directories.
    AnyDepth,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    /// Regular files, also through links.
    pub(crate) files: Vec<PathBuf>,
    /// Directories whose entries decided the result, as they were before they were listed.
    pub(crate) directories: BTreeMap<PathBuf, Metadata>,
}

type Failure = (PathBuf, io::Error);

impl Matcher {
    /// A glob relative to `base`; `*`, `?`, `[a-z]` within a name, `**` for any number of directories, and at the end for everything
    /// below. Byte code of Python (`__pycache__`, `*.pyc`) never matches: a build writes it, and would put itself out of date.
    pub(crate) fn of_glob(base: &Path, glob: &str) -> Self {
        let root = if glob.starts_with('/') { PathBuf::from("/") } else { base.to_owned() };
        let mut steps: Vec<Step> = glob.split('/').filter(|name| !name.is_empty() && *name != ".").map(step).collect();
        if matches!(steps.last(), Some(Step::AnyDepth)) {
            steps.push(step("*"));
        }
        Self { root, steps }
    }

    /// One file.
    pub(crate) fn of_file(file: &Path) -> Self {
        Self { root: file.to_owned(), steps: Vec::new() }
    }

    /// Every `*.sql` directly in a directory.
    pub(crate) fn sql_files_in(directory: &Path) -> Self {
        Self { root: directory.to_owned(), steps: vec![step("*.sql")] }
    }

    /// Adds what matches now.
    ///
    /// # Errors
    /// A directory that is there cannot be listed.
    pub(crate) fn collect(&self, into: &mut Matches) -> Result<(), Failure> {
        walk(&self.root, &self.steps, into)
    }
}

fn step(name: &str) -> Step {
    if name == "**" {
        return Step::AnyDepth;
    }
    match Pattern::new(name) {
        Ok(pattern) if name.contains(['*', '?', '[']) => Step::Wild(pattern),
        _ => Step::Name(name.to_owned()),
    }
}

fn walk(at: &Path, steps: &[Step], into: &mut Matches) -> Result<(), Failure> {
    let Some((first, rest)) = steps.split_first() else {
        if at.is_file() {
            into.files.push(at.to_owned());
        }
        return Ok(());
    };
    match first {
        Step::Name(name) => {
            let next = at.join(name);
            if next.exists() {
                return walk(&next, rest, into);
            }
            remember(at, into).map(|_| ())
        }
        Step::Wild(pattern) => {
            for (name, entry) in entries(at, into)? {
                let of_python = name == "__pycache__" || name.ends_with(".pyc");
                if pattern.matches_with(&name, OPTIONS) && !of_python {
                    walk(&entry.path(), rest, into)?;
                }
            }
            Ok(())
        }
        Step::AnyDepth => {
            walk(at, rest, into)?;
            for (name, entry) in entries(at, into)? {
                // Links are not followed on the way down: one to a directory above would never end.
                let directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if directory && !name.starts_with('.') && name != "__pycache__" {
                    walk(&entry.path(), steps, into)?;
                }
            }
            Ok(())
        }
    }
}

/// The entries of a directory; none of what is not there or is no directory.
fn entries(directory: &Path, into: &mut Matches) -> Result<Vec<(String, std::fs::DirEntry)>, Failure> {
    if !remember(directory, into)? {
        return Ok(Vec::new());
    }
    let refused = |reason| (directory.to_owned(), reason);
    let listed = std::fs::read_dir(directory).map_err(refused)?;
    let named = listed.map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry)));
    named.collect::<Result<_, _>>().map_err(refused)
}

/// Notes the directory's metadata before it is listed. False: there is no such directory.
fn remember(directory: &Path, into: &mut Matches) -> Result<bool, Failure> {
    match std::fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => {
            into.directories.entry(directory.to_owned()).or_insert(metadata);
            Ok(true)
        }
        Ok(_) => Ok(false),
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(reason) => Err((directory.to_owned(), reason)),
    }
}
