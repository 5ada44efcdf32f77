//! The fingerprint of a source: it identifies the template that a build of the present inputs would give.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use super::hashing::{SHOWN_BYTES, count, hex, text, texts};
use super::inputs::{Inputs, InputsError};
use super::source::{Source, SourceKind};

/// Increased when pgdibs starts to build another template from the same inputs.
pub const FORMAT_VERSION: u32 = 3;

/// The properties of a template beyond its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FingerprintContext<'a> {
    /// The server's major version.
    pub server_major: u32,
    /// For a `database` source, the digest of its schema and the number of its copy; ignored for the others.
    pub database_digest: &'a str,
    /// The pool's extensions, created before the build.
    pub extensions: &'a [String],
    /// The pool's locale, encoding and ICU locale; empty for those of the server.
    pub locale: [&'a str; 3],
    /// The pool's roles, created before the build.
    pub roles: &'a [String],
    /// The role that owns the template's objects.
    pub owner: &'a str,
}

/// Computes the fingerprint of a source. It caches the digests of files by their metadata, so that a repeated call costs one system
/// call for each file and directory.
#[derive(Debug)]
pub struct SourceFingerprint {
    source: Source,
    inputs: Inputs,
    constant: [u8; 32],
    last: Option<([u8; 32], [u8; 32], String)>,
}

impl SourceFingerprint {
    /// Creates it without reading a file.
    pub fn new(source: Source) -> Self {
        let inputs = Inputs::of(&source);
        let constant = constant_part(&source);
        Self { source, inputs, constant, last: None }
    }

    /// The source.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The fingerprint of the present inputs, 64 hex digits. It blocks on reading files.
    ///
    /// # Errors
    /// An input is missing or cannot be read.
    pub fn current(&mut self, context: &FingerprintContext<'_>) -> Result<String, InputsError> {
        let content = self.inputs.digest()?;
        let properties = self.context_part(context);
        if let Some((last_content, last_properties, fingerprint)) = &self.last
            && *last_content == content
            && *last_properties == properties
        {
            return Ok(fingerprint.clone());
        }
        let mut hash = Sha256::new();
        hash.update(self.constant);
        hash.update(properties);
        hash.update(content);
        let fingerprint = hex(&hash.finalize());
        self.last = Some((content, properties, fingerprint.clone()));
        Ok(fingerprint)
    }

    /// The inputs of the last fingerprint by name, with the beginning of a hash of each.
    pub fn inputs(&self, context: &FingerprintContext<'_>) -> BTreeMap<String, String> {
        let part = |add: &dyn Fn(&mut Sha256)| {
            let mut hash = Sha256::new();
            add(&mut hash);
            hex(&hash.finalize()[..SHOWN_BYTES])
        };
        let mut inputs: BTreeMap<String, String> = self.inputs.files().collect();
        inputs.insert("the version of the server".to_owned(), context.server_major.to_string());
        inputs.insert("the version of pgdibs' builds".to_owned(), FORMAT_VERSION.to_string());
        let settings = part(&|hash| {
            texts(hash, context.extensions);
            texts(hash, context.roles);
            text(hash, context.owner);
            context.locale.iter().for_each(|one| text(hash, one));
        });
        inputs.insert("the settings of the pool".to_owned(), settings);
        if let SourceKind::Database(name) = &self.source.kind {
            inputs.insert(format!("the database {name}"), part(&|hash| text(hash, context.database_digest)));
        }
        if let SourceKind::Command(argv) = &self.source.kind {
            inputs.insert("the command".to_owned(), part(&|hash| texts(hash, argv)));
        }
        for (name, value) in &self.source.env {
            inputs.insert(format!("the variable {name}"), part(&|hash| text(hash, value.expose_secret())));
        }
        inputs
    }

    fn context_part(&self, context: &FingerprintContext<'_>) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(context.server_major.to_be_bytes());
        if matches!(self.source.kind, SourceKind::Database(_)) {
            text(&mut hash, context.database_digest);
        }
        texts(&mut hash, context.extensions);
        texts(&mut hash, context.roles);
        text(&mut hash, context.owner);
        context.locale.iter().for_each(|one| text(&mut hash, one));
        hash.finalize().into()
    }
}

/// Hashes the configuration of the source without absolute paths, so that two checkouts of one commit have one fingerprint.
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
