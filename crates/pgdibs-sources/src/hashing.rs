//! How texts and lists enter a hash, and how the hash is written.

use sha2::{Digest, Sha256};

/// Each part carries its length, so that no two lists of parts run together into the same bytes.
pub(super) fn text(hash: &mut Sha256, part: &str) {
    count(hash, part.len());
    hash.update(part.as_bytes());
}

/// The same for a list, which carries its length too.
pub(super) fn texts(hash: &mut Sha256, parts: &[String]) {
    count(hash, parts.len());
    parts.iter().for_each(|part| text(hash, part));
}

/// A length, in eight bytes.
pub(super) fn count(hash: &mut Sha256, count: usize) {
    hash.update((count as u64).to_be_bytes());
}

/// Two digits for each byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
