//! The fingerprint of a source: which template its inputs, as they are now, would give.

use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use super::hashing::{count, hex, text, texts};
use super::inputs::{Inputs, InputsError};
use super::source::{Source, SourceKind};

/// Changes whenever this version of pgdibs would build another template from the same inputs.
pub const FORMAT_VERSION: u32 = 1;

/// What else makes a template what it is, known to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Circumstances<'a> {
    /// 15 for 15.4.
    pub server_major: u32,
    /// For a `database` source: a digest of that database, made by whoever speaks SQL. Ignored for the others.
    pub database_digest: &'a str,
    /// The pool's extensions, made before the build.
    pub extensions: &'a [String],
    /// The pool's roles, made before the build.
    pub roles: &'a [String],
    /// The role that owns the template's objects.
    pub owner: &'a str,
}

/// The fingerprints of one source over time. It remembers the content of files whose metadata did not change, so that asking
/// again costs one look at each file and directory.
#[derive(Debug)]
pub struct FingerprintOf {
    source: Source,
    inputs: Inputs,
    constant: [u8; 32],
    last: Option<([u8; 32], [u8; 32], String)>,
}

impl FingerprintOf {
    /// For one source; reads nothing yet.
    pub fn new(source: Source) -> Self {
        let inputs = Inputs::of(&source);
        let constant = constant_part(&source);
        Self { source, inputs, constant, last: None }
    }

    /// The source.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The fingerprint of the inputs as they are now: 64 hex digits. It reads files, so call it where blocking is allowed.
    ///
    /// # Errors
    /// An input is missing or cannot be read.
    pub fn current(&mut self, circumstances: &Circumstances<'_>) -> Result<String, InputsError> {
        let content = self.inputs.digest()?;
        let around = self.circumstances_part(circumstances);
        if let Some((last_content, last_around, fingerprint)) = &self.last
            && *last_content == content
            && *last_around == around
        {
            return Ok(fingerprint.clone());
        }
        let mut hash = Sha256::new();
        hash.update(self.constant);
        hash.update(around);
        hash.update(content);
        let fingerprint = hex(&hash.finalize());
        self.last = Some((content, around, fingerprint.clone()));
        Ok(fingerprint)
    }

    fn circumstances_part(&self, circumstances: &Circumstances<'_>) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(circumstances.server_major.to_be_bytes());
        if matches!(self.source.kind, SourceKind::Database(_)) {
            text(&mut hash, circumstances.database_digest);
        }
        texts(&mut hash, circumstances.extensions);
        texts(&mut hash, circumstances.roles);
        text(&mut hash, circumstances.owner);
        hash.finalize().into()
    }
}

/// What the configuration says. Not the absolute paths: two checkouts of one state have one fingerprint.
fn constant_part(source: &Source) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(FORMAT_VERSION.to_be_bytes());
    text(&mut hash, source.kind.key());
    match &source.kind {
        SourceKind::Command(argv) => texts(&mut hash, argv),
        SourceKind::Database(name) => text(&mut hash, name),
        SourceKind::SqlDir(_) | SourceKind::SqlFile(_) => {}
    }
    count(&mut hash, source.env.len());
    for (name, value) in &source.env {
        text(&mut hash, name);
        text(&mut hash, value.expose_secret());
    }
    hash.finalize().into()
}
