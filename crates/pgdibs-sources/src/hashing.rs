//! Adds texts and lists to a hash, and formats the hash.

use sha2::{Digest, Sha256};

/// Adds a text after its length, so that no two lists of texts give the same bytes.
pub(super) fn text(hash: &mut Sha256, part: &str) {
    count(hash, part.len());
    hash.update(part.as_bytes());
}

/// Adds a list after its length.
pub(super) fn texts(hash: &mut Sha256, parts: &[String]) {
    count(hash, parts.len());
    parts.iter().for_each(|part| text(hash, part));
}

/// Adds a length, in eight bytes.
pub(super) fn count(hash: &mut Sha256, count: usize) {
    hash.update((count as u64).to_be_bytes());
}

/// How many bytes of a hash show that an input has changed.
pub(super) const SHOWN_BYTES: usize = 6;

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
