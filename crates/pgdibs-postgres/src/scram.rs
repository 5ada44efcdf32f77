//! Passwords: the SCRAM-SHA-256 verifier that Postgres stores, computed here so that no password is part of a statement or its parameters
//! (`log_statement = all` would write them down). Build tokens are digested for the same reason.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngExt as _;
use ring::{digest, hmac, pbkdf2};
use secrecy::SecretString;

/// Postgres's own default. Random passwords need fewer, but the JDBC driver refuses less than 4096 (RFC 7677, section 4).
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

pub use pgdibs_core::name::PASSWORD_PREFIX;

/// The verifier of a password, in the form of `create role … password` (RFC 5803, as Postgres writes it).
pub fn verifier(password: &str) -> String {
    verifier_with_salt(password, &rand::rng().random::<[u8; 16]>())
}

/// A password that is never stored: 244 random bits, in the form of `new_password`.
pub(crate) fn random_password() -> SecretString {
    let half = || uuid::Uuid::new_v4().simple().to_string();
    SecretString::from(format!("{PASSWORD_PREFIX}{}{}", half(), half()))
}

/// What the catalog stores of a build token: enough to recognise it, and useless to a reader of the catalog or of the server's log. The token
/// is random, so it needs neither salt nor many rounds.
pub(crate) fn digest(token: &str) -> String {
    digest::digest(&digest::SHA256, token.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn verifier_with_salt(password: &str, salt: &[u8; 16]) -> String {
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, salt, password.as_bytes(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let stored_key = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    format!(
        "SCRAM-SHA-256${ITERATIONS}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key),
        STANDARD.encode(server_key)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifier_has_the_form_of_postgres() {
        let text = verifier_with_salt("secret", &[7; 16]);
        assert!(text.starts_with("SCRAM-SHA-256$4096:BwcHBwcHBwcHBwcHBwcHBw==$"), "{text}");
        assert_eq!(text.split('$').nth(2).expect("the keys").split(':').count(), 2);
        assert!(!text.contains("secret"));
    }
}
