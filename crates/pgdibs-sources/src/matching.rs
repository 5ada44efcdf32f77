//! File globs: the files that one names now, and the directories that were listed to find them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use nix::errno::Errno;
use walkdir::{DirEntry, WalkDir};

/// A glob of files: `*`, `?`, `[a-z]` and `{a,b}` within a name, `**` for any number of directories, at the end for all files below.
///
/// Wildcards match no hidden names, as in a shell: editors and version control keep their own files beside the inputs. Python's byte
/// code (`__pycache__`, `*.pyc`) never matches: a build writes it, and would change its own fingerprint. Below `**`, links to
/// directories are followed only where the glob spells out their name.
#[derive(Debug, Clone)]
pub struct FileGlob {
    text: String,
    /// The path before the first wildcard; the walk starts there.
    root: PathBuf,
    /// Matches files, relative to `root`.
    files: GlobMatcher,
    /// Match the directories below `root` that can hold a match, so that no others are listed.
    directories: GlobSet,
    /// Match those of them that may be links.
    links: GlobSet,
    /// Match the hidden names that the glob spells out.
    hidden: GlobSet,
}

/// A file or directory that the operating system does not let this process read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the input {}: {reason}", path.display())]
pub struct Unreadable {
    /// The file or directory.
    pub path: PathBuf,
    /// The operating system's reason.
    pub reason: io::Error,
}

/// The result of one or more globs.
#[derive(Debug, Default)]
pub struct Matches {
    /// Regular files, also through links; in no order, and twice if two globs match them.
    pub files: Vec<PathBuf>,
    /// Directories whose entries decided the result, with their metadata from before they were listed: as long as it stays the
    /// same, another walk finds the same files.
    pub directories: BTreeMap<PathBuf, Metadata>,
}

impl FileGlob {
    /// Parses a glob.
    ///
    /// # Errors
    /// The text is no glob, such as one with an unclosed `[`.
    pub fn parse(text: &str) -> Result<Self, globset::Error> {
        let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        let literals = names.iter().take_while(|name| is_literal(name)).count();
        let mut root = PathBuf::from(if text.starts_with('/') { "/" } else { "" });
        root.extend(&names[..literals]);
        let (mut directories, mut links) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let mut hidden = GlobSetBuilder::new();
        let below = &names[literals..];
        for (place, name) in below.iter().enumerate() {
            let glob = glob(&below[..=place].join("/"))?;
            if is_literal(name) || !below[..=place].contains(&"**") {
                links.add(glob.clone());
            }
            if place + 1 < below.len() || *name == "**" {
                directories.add(glob);
            }
            if name.starts_with('.') {
                hidden.add(self::glob(name)?);
            }
        }
        Ok(Self {
            text: text.to_owned(),
            root,
            files: glob(&below.join("/"))?.compile_matcher(),
            directories: directories.build()?,
            links: links.build()?,
            hidden: hidden.build()?,
        })
    }

    /// Adds the files that match now; the glob is relative to `base`. A directory below the first wildcard that this process may not
    /// list is passed over.
    ///
    /// # Errors
    /// The operating system refuses to list a directory for another reason, or the one before the first wildcard.
    pub fn find(&self, base: &Path, into: &mut Matches) -> Result<(), Unreadable> {
        let root = if self.root.as_os_str().is_empty() { base.to_owned() } else { base.join(&self.root) };
        let walk = WalkDir::new(&root).follow_links(true).into_iter();
        for entry in walk.filter_entry(|entry| entry.depth() == 0 || self.can_match(entry, &root)) {
            // Metadata of a directory is read before its entries, which the next turn of this loop asks for.
            match entry.and_then(|entry| entry.metadata().map(|metadata| (entry, metadata))) {
                Ok((entry, metadata)) if metadata.is_dir() => {
                    into.directories.entry(entry.into_path()).or_insert(metadata);
                }
                Ok((entry, metadata)) if metadata.is_file() && self.files.is_match(below(&entry, &root)) => {
                    into.files.push(entry.into_path());
                }
                Ok(_) => {}
                Err(error) => {
                    let path = error.path().unwrap_or(&root).to_owned();
                    let depth = error.depth();
                    // Without an I/O error, a link leads to a directory above itself.
                    let Some(reason) = error.into_io_error() else { continue };
                    match reason.raw_os_error().map(Errno::from_raw) {
                        Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                        Some(Errno::EACCES | Errno::EPERM) if depth > 0 => {}
                        _ => return Err(Unreadable { path, reason }),
                    }
                }
            }
        }
        Ok(())
    }

    fn can_match(&self, entry: &DirEntry, root: &Path) -> bool {
        let name = entry.file_name().to_string_lossy();
        let is_byte_code = name == "__pycache__" || name.ends_with(".pyc");
        let is_hidden = name.starts_with('.') && !self.hidden.is_match(&*name);
        let path = below(entry, root);
        let is_walked = !entry.file_type().is_dir()
            || self.directories.is_match(path) && (!entry.path_is_symlink() || self.links.is_match(path));
        !is_byte_code && !is_hidden && is_walked
    }
}

impl fmt::Display for FileGlob {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

fn is_literal(name: &str) -> bool {
    !name.contains(['*', '?', '[', '{'])
}

fn glob(text: &str) -> Result<globset::Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(true).backslash_escape(false).build()
}

fn below<'a>(entry: &'a DirEntry, root: &Path) -> &'a Path {
    entry.path().strip_prefix(root).unwrap_or(entry.path())
}
