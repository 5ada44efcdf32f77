//! The input files of a source: which they are now, and a digest of their names and content that is cheap to ask for again.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::hashing::text;
use super::matching::{Matcher, Matches};
use super::source::{Source, SourceKind};

/// Why the inputs give no fingerprint, as a sentence.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// A glob, file or directory that gives nothing.
    #[error("{0}")]
    Missing(String),
    /// The operating system refused.
    #[error("cannot read the input {}: {reason}; make it readable for the daemon", path.display())]
    Unreadable {
        /// What it was about.
        path: PathBuf,
        /// Its reason.
        reason: io::Error,
    },
}

/// A file or directory changed this shortly before it was looked at may change again without its times showing it: the clock of a
/// file system ticks in steps of up to two seconds. Until it is older, it is read each time.
const UNSETTLED: Duration = Duration::from_secs(2);

/// What tells whether a file or directory is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the last change lies far enough back at `now` (since the epoch) for the times to be trusted.
    fn settled(&self, now: Duration) -> bool {
        let limit = i64::try_from(now.saturating_sub(UNSETTLED).as_secs()).unwrap_or(i64::MAX);
        self.changed.0 < limit && self.modified.0 < limit
    }
}

#[derive(Debug, Clone)]
struct Seen {
    mark: Mark,
    settled: bool,
    digest: [u8; 32],
}

/// The inputs of one source.
#[derive(Debug)]
pub struct Inputs {
    base: PathBuf,
    patterns: Vec<Pattern>,
    /// The last listing, as long as the directories it came from are unchanged.
    listing: Option<Listing>,
    seen: BTreeMap<PathBuf, Seen>,
    whole: Option<[u8; 32]>,
    /// How many files were read, ever; tests tell by it whether the cache works.
    pub(super) reads: u64,
}

#[derive(Debug)]
struct Pattern {
    matcher: Matcher,
    /// What to say when nothing matches.
    missing: String,
}

#[derive(Debug)]
struct Listing {
    files: Vec<PathBuf>,
    directories: Vec<(PathBuf, Mark)>,
}

impl Inputs {
    /// An SQL source's own files, then its `inputs`; of a `database` source nothing.
    pub fn of(source: &Source) -> Self {
        let base = &source.base;
        let own = match &source.kind {
            SourceKind::SqlDir(directory) => Some(Pattern {
                matcher: Matcher::sql_files_in(directory),
                missing: format!(
                    "there are no *.sql files in the directory {} (sql_dir); correct sql_dir or put the files there",
                    directory.display()
                ),
            }),
            SourceKind::SqlFile(file) => Some(Pattern {
                matcher: Matcher::of_file(file),
                missing: format!("there is no file {} (sql_file); correct the path", file.display()),
            }),
            SourceKind::Command(_) | SourceKind::Database(_) => None,
        };
        let globs = source.inputs.iter().map(|glob| Pattern {
            matcher: Matcher::of_glob(base, glob),
            missing: format!(
                "the input `{glob}` matches no file under {}; correct the glob (`dir/**` takes everything below dir) or leave it out",
                base.display()
            ),
        });
        let patterns = own.into_iter().chain(globs).collect();
        Self { base: base.clone(), patterns, listing: None, seen: BTreeMap::new(), whole: None, reads: 0 }
    }

    /// The digest of every input's relative path and content, so that a renamed file counts as a change.
    ///
    /// # Errors
    /// An input is missing or cannot be read.
    pub fn digest(&mut self) -> Result<[u8; 32], InputsError> {
        self.digest_at(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }

    /// The same with the time since the epoch given.
    pub(super) fn digest_at(&mut self, now: Duration) -> Result<[u8; 32], InputsError> {
        match self.look(now) {
            // A file that went between the listing and the reading, such as an editor's: the next listing does not have it.
            Err(InputsError::Unreadable { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => self.look(now),
            result => result,
        }
    }

    fn look(&mut self, now: Duration) -> Result<[u8; 32], InputsError> {
        let listed = match self.listing.take().filter(Listing::still_holds) {
            Some(listing) => listing,
            None => {
                self.whole = None;
                self.list()?
            }
        };
        // Whatever fails from here on, the next call begins with a listing of its own.
        for file in &listed.files {
            let metadata = std::fs::metadata(file).map_err(|reason| unreadable(file, reason))?;
            let mark = Mark::of(&metadata);
            let known = self.seen.get(file).filter(|seen| seen.settled && seen.mark == mark);
            if known.is_none() {
                let digest = read(file)?;
                self.reads += 1;
                let before = self.seen.insert(file.clone(), Seen { mark, settled: mark.settled(now), digest });
                if before.is_none_or(|before| before.digest != digest) {
                    self.whole = None;
                }
            }
        }
        let whole = match self.whole {
            Some(whole) => whole,
            None => {
                self.seen.retain(|path, _| listed.files.binary_search(path).is_ok());
                self.combine(&listed.files)
            }
        };
        self.whole = Some(whole);
        // Directories that changed a moment ago may change again unseen: list them again next time.
        let settled = listed.directories.iter().all(|(_, mark)| mark.settled(now));
        self.listing = settled.then_some(listed);
        Ok(whole)
    }

    fn combine(&self, files: &[PathBuf]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for file in files {
            let relative = file.strip_prefix(&self.base).unwrap_or(file);
            text(&mut hash, &relative.to_string_lossy());
            if let Some(seen) = self.seen.get(file) {
                hash.update(seen.digest);
            }
        }
        hash.finalize().into()
    }

    fn list(&self) -> Result<Listing, InputsError> {
        let mut all = Matches::default();
        for pattern in &self.patterns {
            let before = all.files.len();
            pattern.matcher.collect(&mut all).map_err(|(path, reason)| unreadable(&path, reason))?;
            if all.files.len() == before {
                return Err(InputsError::Missing(pattern.missing.clone()));
            }
        }
        all.files.sort();
        all.files.dedup();
        let directories = all.directories.into_iter().map(|(path, metadata)| (path, Mark::of(&metadata))).collect();
        Ok(Listing { files: all.files, directories })
    }
}

impl Listing {
    fn still_holds(&self) -> bool {
        self.directories
            .iter()
            .all(|(path, mark)| std::fs::metadata(path).is_ok_and(|metadata| Mark::of(&metadata) == *mark))
    }
}

fn read(file: &Path) -> Result<[u8; 32], InputsError> {
    let mut hash = Sha256::new();
    let mut opened = std::fs::File::open(file).map_err(|reason| unreadable(file, reason))?;
    io::copy(&mut opened, &mut hash).map_err(|reason| unreadable(file, reason))?;
    Ok(hash.finalize().into())
}

fn unreadable(path: &Path, reason: io::Error) -> InputsError {
    InputsError::Unreadable { path: path.to_owned(), reason }
}

/// The files that an SQL source runs, in order: plain byte order of the names, so `10.sql` comes before `9.sql` and `09.sql` does not.
///
/// # Errors
/// There are none, or their directory cannot be listed.
pub fn sql_files(source: &Source) -> Result<Vec<PathBuf>, InputsError> {
    let own = Source { inputs: Vec::new(), ..source.clone() };
    Ok(Inputs::of(&own).list()?.files)
}
