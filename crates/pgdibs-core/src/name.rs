//! Names: the only module that makes or recognises the names of pools, databases and roles.
//!
//! Every name in DDL has one of these types, so it fits into the 63 bytes at which Postgres truncates with only a notice.
//! A truncated name could drop the wrong database.

use std::fmt;

use sha2::{Digest, Sha256};

/// The prefix of every generated password, so that a secret scanner (`scripts/find-secrets.sh` or another) finds a leaked one.
pub const PASSWORD_PREFIX: &str = "pgdibspw";

/// A name or a setting that breaks its rule. `Display` states the field and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct InvalidName {
    /// The request or configuration field.
    pub field: &'static str,
    /// The rule, and the accepted values.
    pub rule: String,
}

/// Adds `as_str` and `Display` to a type around a text.
macro_rules! text_type {
    ($type:ident) => {
        impl $type {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn invalid(field: &'static str, rule: impl Into<String>) -> InvalidName {
    InvalidName { field, rule: rule.into() }
}

/// A rejected value for a message: control characters escaped, at most 60 characters.
#[must_use]
pub fn shown(value: &str) -> String {
    let mut text: String = value.chars().take(60).flat_map(char::escape_debug).collect();
    if value.chars().count() > 60 {
        text.push('…');
    }
    text
}

/// The base name of the databases of a pool: `[a-z_][a-z0-9_]{0,39}`, but neither `owner` nor `l_` with digits, because the
/// pool's owner role would then have the name of a role with another purpose.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolName(String);

impl PoolName {
    /// The maximum in bytes: with `_template_` and 12 hex digits it stays within Postgres's 63.
    pub const MAX_BYTES: usize = 40;

    /// Validates a pool name.
    ///
    /// # Errors
    /// When the text is no pool name; the error states the rule.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if !is_plain_identifier(text, Self::MAX_BYTES) {
            return Err(invalid(
                "pool",
                format!(
                    "\"{}\" is no pool name: use 1 to {} characters, a to z, 0 to 9 and _, and no digit first",
                    shown(text),
                    Self::MAX_BYTES
                ),
            ));
        }
        if Self::is_reserved(text) {
            return Err(invalid("pool", format!("\"{text}\" is reserved: {}", Self::why_reserved(text))));
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether the role of a pool with this name would have another purpose: `pgdibs_owner` or `pgdibs_l_<digits>`.
    #[must_use]
    pub fn is_reserved(text: &str) -> bool {
        let login = text.strip_prefix("l_");
        text == "owner" || login.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    }

    /// Why a reserved name is no pool name, and what to do.
    #[must_use]
    pub fn why_reserved(text: &str) -> String {
        format!(
            "the role that owns the pool's objects would be \"pgdibs_{text}\", which pgdibs uses for something else; choose another name, such as \"{text}_test\""
        )
    }
}

text_type!(PoolName);

/// The name of a role: a pool's owner, a login, or an additional role of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleName(String);

impl RoleName {
    /// The role that owns every database of pgdibs, from `create database` on, and so identifies them.
    #[must_use]
    pub fn database_owner() -> Self {
        Self("pgdibs_owner".to_owned())
    }

    /// The default owner of a pool's objects: `pgdibs_<pool>`, so that no two pools share a role.
    #[must_use]
    pub fn of_pool(pool: &PoolName) -> Self {
        Self(format!("pgdibs_{pool}"))
    }

    /// The login with this number: `pgdibs_l_<n>`.
    #[must_use]
    pub fn login(number: i64) -> Self {
        Self(format!("pgdibs_l_{number}"))
    }

    /// Whether the name has the form of a generated login: `pgdibs_l_<n>`.
    #[must_use]
    pub fn is_generated_login(text: &str) -> bool {
        text.strip_prefix("pgdibs_l_").is_some_and(is_number)
    }

    /// Validates a role name from configuration, a request or the catalog: 1 to 63 bytes, no NUL, not `pg_…` (reserved by
    /// Postgres), not `public` or `none` (keywords of `grant`).
    ///
    /// # Errors
    /// When the text breaks that rule; `field` names its origin.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, InvalidName> {
        let reserved = text.starts_with("pg_") || matches!(text, "public" | "none");
        if text.is_empty() || text.len() > 63 || text.contains('\0') || reserved {
            return Err(invalid(
                field,
                format!(
                    "\"{}\" is no role name for pgdibs: use 1 to 63 bytes, and not pg_…, public or none",
                    shown(text)
                ),
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

text_type!(RoleName);

/// The caller's identifier of a schema state: any 1 to 200 characters (a hash of migrations, a git tree id).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Validates a fingerprint. NUL is invalid because Postgres's `text` cannot hold it.
    ///
    /// # Errors
    /// When the text is empty, has more than 200 characters, or holds a NUL.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let characters = text.chars().count();
        if (1..=200).contains(&characters) && !text.contains('\0') {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid("fingerprint", format!("must be 1 to 200 characters without NUL, not {characters}")))
        }
    }

    /// The first 12 hex digits of its SHA-256, for the name of the template's database.
    #[must_use]
    pub fn short(&self) -> String {
        Sha256::digest(self.0.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

text_type!(Fingerprint);

/// The name of a database of pgdibs, made from a pool and a kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatabaseName(String);

impl DatabaseName {
    /// `myapp_test_gw<slot>`: the stable name that the holder of a lease connects to.
    #[must_use]
    pub fn slot(pool: &PoolName, slot: u32) -> Self {
        Self(format!("{pool}_gw{slot}"))
    }

    /// `myapp_test_spare_<n>`: a clone outside every slot, closed to connections.
    #[must_use]
    pub fn spare(pool: &PoolName, number: i64) -> Self {
        Self(format!("{pool}_spare_{number}"))
    }

    /// `myapp_test_old_<n>`: a used clone before its drop.
    #[must_use]
    pub fn old(pool: &PoolName, number: i64) -> Self {
        Self(format!("{pool}_old_{number}"))
    }

    /// `myapp_test_kept_<n>`: a used clone kept for inspection.
    #[must_use]
    pub fn kept(pool: &PoolName, number: i64) -> Self {
        Self(format!("{pool}_kept_{number}"))
    }

    /// `myapp_test_build_<n>`: a template during its build.
    #[must_use]
    pub fn build(pool: &PoolName, number: i64) -> Self {
        Self(format!("{pool}_build_{number}"))
    }

    /// `myapp_test_template_<12 hex digits>`: a published template.
    #[must_use]
    pub fn template(pool: &PoolName, fingerprint: &Fingerprint) -> Self {
        Self(format!("{pool}_template_{}", fingerprint.short()))
    }

    /// Recognises a name of this pool; `None` for any other text.
    #[must_use]
    pub fn recognise(pool: &PoolName, text: &str) -> Option<Self> {
        let rest = text.strip_prefix(pool.as_str())?;
        let numbered = ["_gw", "_spare_", "_old_", "_kept_", "_build_"]
            .iter()
            .any(|kind| rest.strip_prefix(kind).is_some_and(is_number));
        let template = rest.strip_prefix("_template_").is_some_and(|hex| {
            hex.len() == 12 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        });
        (numbered || template).then(|| Self(text.to_owned()))
    }
}

text_type!(DatabaseName);

/// A database that tests created with the login of a lease (`login = "createdb"`). Its owner identifies it; its name is arbitrary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestsOwnDatabase(String);

impl TestsOwnDatabase {
    /// A database of this owner; `None` unless the owner is a generated login.
    #[must_use]
    pub fn of_login(owner: &str, name: &str) -> Option<Self> {
        RoleName::is_generated_login(owner).then(|| Self(name.to_owned()))
    }

    /// A database of a pool's owner role, as which only logins of leases act.
    #[must_use]
    pub fn of_pool_owner(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// `pgdibs_moved_<16 hex digits>`: the new name of one whose name pgdibs needs itself.
    #[must_use]
    pub fn moved(random: u64) -> Self {
        Self(format!("pgdibs_moved_{random:016x}"))
    }
}

text_type!(TestsOwnDatabase);

/// The slot that a worker id names: 3 for `gw3`; `None` for any other text.
#[must_use]
pub fn preferred_slot(worker: &str) -> Option<u32> {
    let digits = worker.strip_prefix("gw")?;
    if is_number(digits) { digits.parse().ok() } else { None }
}

fn is_plain_identifier(text: &str, max_bytes: usize) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    first && text.len() <= max_bytes && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A decimal number without sign or leading zero, at most 18 digits (fits a bigint).
fn is_number(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 18
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_name_accepts_plain_identifiers_up_to_40_characters() {
        let longest = "a".repeat(40);
        for good in ["a", "_", "myapp_test", "x0", longest.as_str()] {
            assert!(PoolName::parse(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(41);
        for bad in ["", "0a", "A", "my-app", "a\"b", "a;drop", "é", "a b", "a\0", too_long.as_str()] {
            let error = PoolName::parse(bad).expect_err(bad).to_string();
            assert!(error.starts_with("pool: ") && error.contains("use 1 to 40 characters"), "{error}");
        }
    }

    #[test]
    fn pool_name_rejects_names_whose_role_has_another_purpose() {
        for bad in ["owner", "l_5", "l_0", "l_007", "l_12345678901234567890"] {
            let error = PoolName::parse(bad).expect_err(bad).to_string();
            assert!(error.contains("is reserved") && error.contains(&format!("\"{bad}_test\"")), "{error}");
        }
        for good in ["owners", "owner_test", "_owner", "l", "l_", "l_5_test", "l_a", "ll_5"] {
            let role = RoleName::of_pool(&PoolName::parse(good).expect(good));
            assert_ne!(role, RoleName::database_owner());
            assert!(!RoleName::is_generated_login(role.as_str()), "{role}");
        }
    }

    #[test]
    fn database_name_of_the_longest_pool_name_fits_63_bytes() {
        let pool = PoolName::parse(&"p".repeat(40)).expect("40 characters are allowed");
        let fingerprint = Fingerprint::parse("x").expect("one character is allowed");
        for name in [
            DatabaseName::slot(&pool, u32::MAX),
            DatabaseName::spare(&pool, 10i64.pow(15)),
            DatabaseName::build(&pool, 10i64.pow(15)),
            DatabaseName::template(&pool, &fingerprint),
        ] {
            assert!(name.as_str().len() <= 63, "{name} has {} bytes", name.as_str().len());
            assert_eq!(DatabaseName::recognise(&pool, name.as_str()), Some(name));
        }
    }

    #[test]
    fn recognise_rejects_names_of_another_form() {
        let pool = PoolName::parse("app").expect("a valid name");
        for foreign in [
            "app",
            "app_gw",
            "app_gw01",
            "app_gw-1",
            "app_gw0x",
            "APP_gw0",
            "app_template_ab12",
            "app_template_AB12cd34ef56",
            "app_template_ab12cd34ef567",
            "app_test_gw0",
            "xapp_gw0",
            "app_spare_1234567890123456789",
        ] {
            assert_eq!(DatabaseName::recognise(&pool, foreign), None, "{foreign}");
        }
    }

    #[test]
    fn preferred_slot_accepts_only_worker_ids_of_xdist() {
        assert_eq!(preferred_slot("gw0"), Some(0));
        assert_eq!(preferred_slot("gw12"), Some(12));
        for other in ["", "gw", "master", "gw-1", "gw007", "gw99999999999"] {
            assert_eq!(preferred_slot(other), None, "{other}");
        }
    }

    #[test]
    fn role_name_accepts_63_bytes_and_rejects_64() {
        assert!(RoleName::parse("owner", &"r".repeat(63)).is_ok());
        for bad in ["", "pg_monitor", "public", "none", "a\0", &"r".repeat(64)] {
            let error = RoleName::parse("owner", bad).expect_err(bad);
            assert!(error.field == "owner" && error.rule.contains("1 to 63 bytes"), "{error}");
        }
    }

    #[test]
    fn fingerprint_accepts_200_characters_and_rejects_201() {
        for good in ["x", &"é".repeat(200)] {
            assert!(Fingerprint::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a\0", &"x".repeat(201)] {
            assert!(Fingerprint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fingerprint_short_form_is_the_start_of_its_sha_256() {
        let fingerprint = Fingerprint::parse("abc").expect("three characters are allowed");
        assert_eq!(fingerprint.short(), "ba7816bf8f01");
    }

    #[test]
    fn shown_keeps_60_characters_and_marks_the_cut() {
        assert_eq!(shown(&"x".repeat(60)), "x".repeat(60));
        assert_eq!(shown(&"x".repeat(61)), format!("{}…", "x".repeat(60)));
        assert_eq!(shown("a\n"), "a\\n");
    }

    #[test]
    fn login_number_accepts_18_digits_without_leading_zero() {
        for good in ["pgdibs_l_0", "pgdibs_l_10", "pgdibs_l_123456789012345678"] {
            assert!(RoleName::is_generated_login(good), "{good}");
        }
        for bad in ["pgdibs_l_", "pgdibs_l_01", "pgdibs_l_1234567890123456789", "pgdibs_l_1x", "l_1"] {
            assert!(!RoleName::is_generated_login(bad), "{bad}");
        }
        assert!(TestsOwnDatabase::of_login("pgdibs_l_7", "anything").is_some());
        assert!(TestsOwnDatabase::of_login("pgdibs_owner", "anything").is_none());
    }
}
