//! The input files of a source: which files they are now, and a cached digest of their names and content.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::dump::TABLE_OF_CONTENTS;
use super::hashing::{SHOWN_BYTES, count, hex, text};
use super::matching::{FileGlob, Matches, Unreadable};
use super::naming;
use super::script::{Included, Script};
use super::source::{Source, SourceKind};
use super::tools::Place;

/// Why the inputs give no fingerprint, as a sentence.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// A glob, file or directory that matches no file.
    #[error("{0}")]
    Missing(String),
    /// SQL files that psql must not run, or whose order is unknown.
    #[error("{0}")]
    Refused(String),
    /// The operating system refused.
    #[error("{0}; make it readable for the daemon")]
    Unreadable(#[from] Unreadable),
}

/// A file or directory that changed less than this before it was read can change again without its timestamps showing it: the
/// clocks of file systems advance in steps of up to two seconds. Until it is older, every digest reads it again.
const UNSETTLED: Duration = Duration::from_secs(2);

/// The metadata by which an unchanged file or directory is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the last change is old enough at `now` (since the epoch) for the timestamps to be trusted.
    fn is_settled(&self, now: Duration) -> bool {
        let limit = i64::try_from(now.saturating_sub(UNSETTLED).as_secs()).unwrap_or(i64::MAX);
        self.changed.0 < limit && self.modified.0 < limit
    }
}

#[derive(Debug, Clone)]
struct CachedFile {
    stamp: Stamp,
    is_settled: bool,
    digest: [u8; 32],
    /// For a file that psql runs.
    script: Option<Script>,
}

/// The inputs of one source.
#[derive(Debug)]
pub struct Inputs {
    base: PathBuf,
    /// Where psql runs.
    directory: PathBuf,
    own: Option<Own>,
    patterns: Vec<Pattern>,
    /// The last listing, as long as the directories it came from are unchanged.
    listing: Option<Listing>,
    /// The files that those that run include, sorted, and whether each exists.
    included: Vec<(PathBuf, bool)>,
    cache: BTreeMap<PathBuf, CachedFile>,
    combined: Option<[u8; 32]>,
    /// How many files were read, ever; tests check the cache with it.
    pub(super) reads: u64,
}

/// The SQL files of the source itself.
#[derive(Debug)]
enum Own {
    Directory(PathBuf),
    File(PathBuf),
}

#[derive(Debug)]
struct Pattern {
    files: FileGlob,
    /// The error when nothing matches.
    missing: String,
}

#[derive(Debug)]
struct Listing {
    /// What psql runs, in order.
    run: Vec<PathBuf>,
    /// The others, sorted.
    others: Vec<PathBuf>,
    directories: Vec<(PathBuf, Stamp)>,
}

impl Inputs {
    /// An SQL source's own files, then its `inputs`; a `database` source has none.
    pub fn of(source: &Source) -> Self {
        let base = &source.base;
        let own = match &source.kind {
            SourceKind::SqlDir(directory) => Some(Own::Directory(directory.clone())),
            SourceKind::SqlFile(file) => Some(Own::File(file.clone())),
            SourceKind::Command(_) | SourceKind::Database(_) => None,
        };
        let globs = source.inputs.iter().map(|glob| Pattern {
            files: glob.clone(),
            missing: format!(
                "the input `{glob}` matches no file under {}; correct the glob (`dir/**` takes everything below dir) or leave it out",
                base.display()
            ),
        });
        let patterns = globs.collect();
        Self {
            base: base.clone(),
            directory: source.directory.clone(),
            own,
            patterns,
            listing: None,
            included: Vec::new(),
            cache: BTreeMap::new(),
            combined: None,
            reads: 0,
        }
    }

    /// The digest of every input's relative path and content, so that a renamed file counts as a change.
    ///
    /// # Errors
    /// An input is missing or cannot be read.
    pub fn digest(&mut self) -> Result<[u8; 32], InputsError> {
        self.digest_at(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }

    /// The digest at `now`, since the epoch.
    pub(super) fn digest_at(&mut self, now: Duration) -> Result<[u8; 32], InputsError> {
        match self.refresh(now) {
            // An editor deleted its temporary file between the listing and the reading; the next listing does not have it.
            Err(InputsError::Unreadable(Unreadable { reason, .. })) if reason.kind() == io::ErrorKind::NotFound => {
                self.refresh(now)
            }
            result => result,
        }
    }

    fn refresh(&mut self, now: Duration) -> Result<[u8; 32], InputsError> {
        let listing = match self.listing.take().filter(Listing::is_current) {
            Some(listing) => listing,
            None => {
                self.combined = None;
                self.list()?
            }
        };
        // After an error below, the next call lists the files again.
        let included = self.read_scripts(&listing.run, now)?;
        if self.included != included {
            self.included = included;
            self.combined = None;
        }
        for file in &listing.others {
            self.read(file, false, now)?;
        }
        let combined = match self.combined {
            Some(combined) => combined,
            None => {
                let included: BTreeSet<&PathBuf> = self.included.iter().map(|(file, _)| file).collect();
                self.cache.retain(|file, _| {
                    listing.run.contains(file) || listing.others.binary_search(file).is_ok() || included.contains(file)
                });
                self.combine(&listing)
            }
        };
        self.combined = Some(combined);
        let is_settled = listing.directories.iter().all(|(_, stamp)| stamp.is_settled(now));
        self.listing = is_settled.then_some(listing);
        Ok(combined)
    }

    /// Reads a file unless its cached digest, and script if one is needed, are current.
    fn read(&mut self, file: &Path, is_run: bool, now: Duration) -> Result<(), Unreadable> {
        let metadata = std::fs::metadata(file).map_err(|reason| unreadable(file, reason))?;
        let stamp = Stamp::of(&metadata);
        let is_current =
            |cached: &&CachedFile| cached.is_settled && cached.stamp == stamp && (cached.script.is_some() || !is_run);
        if self.cache.get(file).filter(is_current).is_some() {
            return Ok(());
        }
        let (digest, script) = read(file, is_run)?;
        self.reads += 1;
        let entry = CachedFile { stamp, is_settled: stamp.is_settled(now), digest, script };
        let before = self.cache.insert(file.to_owned(), entry);
        if before.is_none_or(|before| before.digest != digest) {
            self.combined = None;
        }
        Ok(())
    }

    /// Reads the files that psql runs, and those that they include. Returns the latter, sorted, and whether each exists: psql reports a
    /// missing one, which may appear later.
    fn read_scripts(&mut self, run: &[PathBuf], now: Duration) -> Result<Vec<(PathBuf, bool)>, InputsError> {
        let (mut included, mut waiting) = (BTreeMap::new(), Vec::new());
        for file in run {
            self.read(file, true, now)?;
            self.refuse(file)?;
            waiting.extend(self.included_by(file));
        }
        while let Some(Included { path, is_sql }) = waiting.pop() {
            if included.contains_key(&path) || run.contains(&path) {
                continue;
            }
            // A device or a pipe has no content of its own.
            let is_there = std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
            included.insert(path.clone(), is_there);
            if !is_there {
                self.cache.remove(&path);
            } else {
                self.read(&path, is_sql, now)?;
                self.refuse(&path)?;
                waiting.extend(self.included_by(&path));
            }
        }
        Ok(included.into_iter().collect())
    }

    fn included_by(&self, file: &Path) -> Vec<Included> {
        self.script(file).map(|script| script.included(file, &self.directory).collect()).unwrap_or_default()
    }

    /// Refuses a file that psql would not run as its author expects, without an error: one of a migration tool that tells the parts of its
    /// files apart by marks, and one that ends early.
    fn refuse(&self, file: &Path) -> Result<(), InputsError> {
        let Some(script) = self.script(file) else { return Ok(()) };
        if let Some((line, text, tool)) = &script.mark {
            return Err(InputsError::Refused(format!(
                "{}, line {line}: `{text}` is a mark of {} in its migrations, which psql does not know: it would run all parts of the file, \
                 also those that take the migration back; {}. (If the file is plain SQL, remove the line.)",
                file.display(),
                tool.name,
                self.place().map(|place| place.instead(tool)).unwrap_or_default(),
            )));
        }
        match &script.stop {
            Some((line, reason)) => Err(InputsError::Refused(format!("{}, line {line}: {reason}", file.display()))),
            None => Ok(()),
        }
    }

    fn script(&self, file: &Path) -> Option<&Script> {
        self.cache.get(file)?.script.as_ref()
    }

    fn place(&self) -> Option<Place<'_>> {
        let (key, files) = match self.own.as_ref()? {
            Own::Directory(directory) => ("sql_dir", directory.as_path()),
            Own::File(file) => ("sql_file", file.parent().unwrap_or(file)),
        };
        Some(Place { key, files, base: &self.base })
    }

    fn combine(&self, listing: &Listing) -> [u8; 32] {
        let mut hash = Sha256::new();
        let included: Vec<PathBuf> = self.included.iter().map(|(file, _)| file.clone()).collect();
        for files in [&listing.run, &included, &listing.others] {
            count(&mut hash, files.len());
            for file in files {
                let relative = file.strip_prefix(&self.base).unwrap_or(file);
                text(&mut hash, &relative.to_string_lossy());
                // A missing included file has none.
                let digest = self.cache.get(file).map(|cached| cached.digest);
                hash.update(digest.unwrap_or_default());
            }
        }
        hash.finalize().into()
    }

    /// The files of the last digest, and the beginning of the hash of each; of a missing included file an empty text.
    pub(super) fn files(&self) -> impl Iterator<Item = (String, String)> {
        let missing = self.included.iter().filter(|(_, exists)| !exists).map(|(file, _)| (file, String::new()));
        let read = self.cache.iter().map(|(file, cached)| (file, hex(&cached.digest[..SHOWN_BYTES])));
        let relative = |file: &PathBuf| file.strip_prefix(&self.base).unwrap_or(file).to_string_lossy().into_owned();
        read.chain(missing).map(move |(file, hash)| (relative(file), hash))
    }

    fn list(&self) -> Result<Listing, InputsError> {
        let mut matches = Matches::default();
        let run = self.list_own(&mut matches)?;
        for pattern in &self.patterns {
            let before = matches.files.len();
            pattern.files.find(&self.base, &mut matches)?;
            if matches.files.len() == before {
                return Err(InputsError::Missing(pattern.missing.clone()));
            }
        }
        let mut others = matches.files;
        others.sort();
        others.dedup();
        let stamped = matches.directories.into_iter().map(|(path, metadata)| (path, Stamp::of(&metadata)));
        Ok(Listing { run, others, directories: stamped.collect() })
    }

    /// The files that psql runs, in order. It adds to `matches` the directories on which the answer depends, and the other files of a dump.
    fn list_own(&self, matches: &mut Matches) -> Result<Vec<PathBuf>, InputsError> {
        let (Some(own), Some(place)) = (&self.own, self.place()) else { return Ok(Vec::new()) };
        match own {
            Own::Directory(directory) => {
                for glob in ["*.{sql,sql.gz}", "*/*.sql"] {
                    FileGlob::parse(glob).expect("a valid glob").find(directory, matches)?;
                }
                naming::arrange(&place, directory, &std::mem::take(&mut matches.files)).map_err(InputsError::Refused)
            }
            // A dump in the directory format.
            Own::File(directory) if directory.join(TABLE_OF_CONTENTS).is_file() => {
                FileGlob::parse("*").expect("a valid glob").find(directory, matches)?;
                Ok(vec![directory.join(TABLE_OF_CONTENTS)])
            }
            Own::File(file) => {
                // This glob matches its base and nothing else.
                FileGlob::parse("").expect("a valid glob").find(file, matches)?;
                match std::mem::take(&mut matches.files) {
                    files if !files.is_empty() => Ok(files),
                    _ if file.is_dir() => Err(InputsError::Missing(format!(
                        "{} (sql_file) is a directory, and no dump of pg_dump; use sql_dir for a directory of SQL files",
                        file.display()
                    ))),
                    _ => Err(InputsError::Missing(format!(
                        "there is no file {} (sql_file); correct the path",
                        file.display()
                    ))),
                }
            }
        }
    }
}

impl Listing {
    fn is_current(&self) -> bool {
        self.directories
            .iter()
            .all(|(path, stamp)| std::fs::metadata(path).is_ok_and(|metadata| Stamp::of(&metadata) == *stamp))
    }
}

fn read(file: &Path, is_run: bool) -> Result<([u8; 32], Option<Script>), Unreadable> {
    let mut hash = Sha256::new();
    let opened = std::fs::File::open(file).map_err(|reason| unreadable(file, reason))?;
    let mut reader = BufReader::with_capacity(64 * 1024, opened);
    let script = match is_run {
        true => Script::read(reader, &mut hash).map(Some),
        false => io::copy(&mut reader, &mut hash).map(|_| None),
    };
    let script = script.map_err(|reason| unreadable(file, reason))?;
    Ok((hash.finalize().into(), script))
}

fn unreadable(path: &Path, reason: io::Error) -> Unreadable {
    Unreadable { path: path.to_owned(), reason }
}

/// The files that an SQL source runs, in order: that of their names, with the versions in them by value, so `9.sql` comes before `10.sql`.
///
/// # Errors
/// There are none, psql must not run them, their order is unknown, or they cannot be read.
pub fn sql_files(source: &Source) -> Result<Vec<PathBuf>, InputsError> {
    let mut own = Inputs::of(&Source { inputs: Vec::new(), ..source.clone() });
    let run = own.list()?.run;
    own.read_scripts(&run, Duration::ZERO)?;
    Ok(run)
}
