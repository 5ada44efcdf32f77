//! The input files of a source: which files they are now, and a cached digest of their names and content.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::hashing::text;
use super::matching::{FileGlob, Matches, Unreadable};
use super::source::{Source, SourceKind};

/// Why the inputs give no fingerprint, as a sentence.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// A glob, file or directory that matches no file.
    #[error("{0}")]
    Missing(String),
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
}

/// The inputs of one source.
#[derive(Debug)]
pub struct Inputs {
    base: PathBuf,
    patterns: Vec<Pattern>,
    /// The last listing, as long as the directories it came from are unchanged.
    listing: Option<Listing>,
    cache: BTreeMap<PathBuf, CachedFile>,
    combined: Option<[u8; 32]>,
    /// How many files were read, ever; tests check the cache with it.
    pub(super) reads: u64,
}

#[derive(Debug)]
struct Pattern {
    files: FileGlob,
    base: PathBuf,
    /// The error when nothing matches.
    missing: String,
}

#[derive(Debug)]
struct Listing {
    files: Vec<PathBuf>,
    directories: Vec<(PathBuf, Stamp)>,
}

impl Inputs {
    /// An SQL source's own files, then its `inputs`; a `database` source has none.
    pub fn of(source: &Source) -> Self {
        let base = &source.base;
        let own = match &source.kind {
            SourceKind::SqlDir(directory) => Some(Pattern {
                files: FileGlob::parse("*.sql").expect("a valid glob"),
                base: directory.clone(),
                missing: format!(
                    "there are no *.sql files in the directory {} (sql_dir); correct sql_dir or put the files there",
                    directory.display()
                ),
            }),
            SourceKind::SqlFile(file) => Some(Pattern {
                // Matches its base and nothing else.
                files: FileGlob::parse("").expect("a valid glob"),
                base: file.clone(),
                missing: format!("there is no file {} (sql_file); correct the path", file.display()),
            }),
            SourceKind::Command(_) | SourceKind::Database(_) => None,
        };
        let globs = source.inputs.iter().map(|glob| Pattern {
            files: glob.clone(),
            base: base.clone(),
            missing: format!(
                "the input `{glob}` matches no file under {}; correct the glob (`dir/**` takes everything below dir) or leave it out",
                base.display()
            ),
        });
        let patterns = own.into_iter().chain(globs).collect();
        Self { base: base.clone(), patterns, listing: None, cache: BTreeMap::new(), combined: None, reads: 0 }
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
        for file in &listing.files {
            let metadata = std::fs::metadata(file).map_err(|reason| unreadable(file, reason))?;
            let stamp = Stamp::of(&metadata);
            let cached = self.cache.get(file).filter(|cached| cached.is_settled && cached.stamp == stamp);
            if cached.is_none() {
                let digest = read(file)?;
                self.reads += 1;
                let entry = CachedFile { stamp, is_settled: stamp.is_settled(now), digest };
                let before = self.cache.insert(file.clone(), entry);
                if before.is_none_or(|before| before.digest != digest) {
                    self.combined = None;
                }
            }
        }
        let combined = match self.combined {
            Some(combined) => combined,
            None => {
                self.cache.retain(|path, _| listing.files.binary_search(path).is_ok());
                self.combine(&listing.files)
            }
        };
        self.combined = Some(combined);
        let is_settled = listing.directories.iter().all(|(_, stamp)| stamp.is_settled(now));
        self.listing = is_settled.then_some(listing);
        Ok(combined)
    }

    fn combine(&self, files: &[PathBuf]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for file in files {
            let relative = file.strip_prefix(&self.base).unwrap_or(file);
            text(&mut hash, &relative.to_string_lossy());
            if let Some(cached) = self.cache.get(file) {
                hash.update(cached.digest);
            }
        }
        hash.finalize().into()
    }

    fn list(&self) -> Result<Listing, InputsError> {
        let mut matches = Matches::default();
        for pattern in &self.patterns {
            let before = matches.files.len();
            pattern.files.find(&pattern.base, &mut matches)?;
            if matches.files.len() == before {
                return Err(InputsError::Missing(pattern.missing.clone()));
            }
        }
        matches.files.sort();
        matches.files.dedup();
        let stamped = matches.directories.into_iter().map(|(path, metadata)| (path, Stamp::of(&metadata)));
        Ok(Listing { files: matches.files, directories: stamped.collect() })
    }
}

impl Listing {
    fn is_current(&self) -> bool {
        self.directories
            .iter()
            .all(|(path, stamp)| std::fs::metadata(path).is_ok_and(|metadata| Stamp::of(&metadata) == *stamp))
    }
}

fn read(file: &Path) -> Result<[u8; 32], Unreadable> {
    let mut hash = Sha256::new();
    let mut opened = std::fs::File::open(file).map_err(|reason| unreadable(file, reason))?;
    io::copy(&mut opened, &mut hash).map_err(|reason| unreadable(file, reason))?;
    Ok(hash.finalize().into())
}

fn unreadable(path: &Path, reason: io::Error) -> Unreadable {
    Unreadable { path: path.to_owned(), reason }
}

/// The files that an SQL source runs, in order: plain byte order of the names, so `10.sql` comes before `9.sql` and `09.sql` does not.
///
/// # Errors
/// There are none, or their directory cannot be listed.
pub fn sql_files(source: &Source) -> Result<Vec<PathBuf>, InputsError> {
    let own = Source { inputs: Vec::new(), ..source.clone() };
    Ok(Inputs::of(&own).list()?.files)
}
