//! Names: the only place where the name of something of ours is made or recognised.
//!
//! A name that reaches DDL has one of these types, so it is short enough (Postgres truncates at 63 bytes with a mere
//! notice, and would then drop the wrong database) and needs no quoting rules of its own.

use std::fmt;

use sha2::{Digest, Sha256};

/// The beginning of every password that pgdibs makes, so that a scanner finds one that leaked: ours (`scripts/find-secrets.py`), or yours.
pub const PASSWORD_MARK: &str = "pgdibspw";

/// A name or a fingerprint that breaks its rule. `Display` is a sentence for people: which field, which rule, the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct InvalidName {
    /// The request or configuration field that carries the name.
    pub field: &'static str,
    /// The rule it breaks, and what would be accepted.
    pub rule: String,
}

fn invalid(field: &'static str, rule: impl Into<String>) -> InvalidName {
    InvalidName { field, rule: rule.into() }
}

/// Shows a rejected value without letting a huge or a control-character-laden one into a message.
#[must_use]
pub fn shown(value: &str) -> String {
    let mut text: String = value.chars().take(60).flat_map(char::escape_debug).collect();
    if value.chars().count() > 60 {
        text.push('…');
    }
    text
}

/// The base name that the databases of one pool carry: `[a-z_][a-z0-9_]{0,39}`, and neither `owner` nor `l_` with digits: the pool's
/// owner role is called after it, and would carry the name of a role that has another purpose.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolName(String);

impl PoolName {
    /// Longest pool name in bytes: with `_template_` and 12 hex digits behind it, it stays below Postgres's 63.
    pub const MAX_BYTES: usize = 40;

    /// Checks the rule.
    ///
    /// # Errors
    /// When the text is no pool name; the sentence says the rule.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if !is_plain_identifier(text, Self::MAX_BYTES) {
            return Err(invalid(
                "pool",
                format!(
                    "\"{}\" is no pool name: 1 to {} characters, a to z, 0 to 9 and _, not starting with a digit",
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

    /// Whether the role of a pool of this name would be one that has another purpose: `pgdibs_owner`, or `pgdibs_l_<digits>`.
    #[must_use]
    pub fn is_reserved(text: &str) -> bool {
        let login = text.strip_prefix("l_");
        text == "owner" || login.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    }

    /// Why a reserved name cannot be a pool's, and what to do.
    #[must_use]
    pub fn why_reserved(text: &str) -> String {
        format!(
            "the role that owns the pool's objects would be \"pgdibs_{text}\", which pgdibs uses for something else; choose another name, such as \"{text}_test\""
        )
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A role that we make or use by name: the template's owner, a login, an extra role of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleName(String);

impl RoleName {
    /// The role that owns every database of ours: the mark that exists from the moment of `create database`.
    #[must_use]
    pub fn database_owner() -> Self {
        Self("pgdibs_owner".to_owned())
    }

    /// The template's owner when the pool names none: `pgdibs_<pool>`, so that no two pools share one.
    #[must_use]
    pub fn of_pool(pool: &PoolName) -> Self {
        Self(format!("pgdibs_{pool}"))
    }

    /// The login with this number: `pgdibs_l_<n>`.
    #[must_use]
    pub fn login(number: i64) -> Self {
        Self(format!("pgdibs_l_{number}"))
    }

    /// Whether the name is one that only we give: `pgdibs_l_<n>`.
    #[must_use]
    pub fn is_login_of_ours(text: &str) -> bool {
        text.strip_prefix("pgdibs_l_").is_some_and(is_number)
    }

    /// Checks a role name from configuration, a request or the catalog: at most 63 bytes, no NUL, not empty, not `pg_…`
    /// (reserved by Postgres), not `public` or `none` (keywords to `grant`).
    ///
    /// # Errors
    /// When the text breaks that rule; `field` says where it came from.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, InvalidName> {
        let reserved = text.starts_with("pg_") || matches!(text, "public" | "none");
        if text.is_empty() || text.len() > 63 || text.contains('\0') || reserved {
            return Err(invalid(
                field,
                format!("\"{}\" is no role name we can use: 1 to 63 bytes, not pg_…, public or none", shown(text)),
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the caller calls a state of its schema: any 1 to 200 characters (a hash of migrations, a git tree id).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Checks the rule. NUL is refused as well, because Postgres's `text` cannot hold it.
    ///
    /// # Errors
    /// When the text is empty, too long, or holds a NUL.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let characters = text.chars().count();
        if (1..=200).contains(&characters) && !text.contains('\0') {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid("fingerprint", format!("must be 1 to 200 characters without NUL, not {characters}")))
        }
    }

    /// The fingerprint as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 hex digits of its SHA-256: what the template's database carries in its name.
    #[must_use]
    pub fn short(&self) -> String {
        Sha256::digest(self.0.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a database of ours. It can only be made here, from a pool and a kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatabaseName(String);

impl DatabaseName {
    /// `myapp_test_gw<slot>`: the stable name that a lease holder sees.
    #[must_use]
    pub fn slot(pool: &PoolName, slot: u32) -> Self {
        Self(format!("{pool}_gw{slot}"))
    }

    /// `myapp_test_spare_<n>`: a clone that waits, closed to connections.
    #[must_use]
    pub fn spare(pool: &PoolName, number: i64) -> Self {
        Self(format!("{pool}_spare_{number}"))
    }

    /// `myapp_test_old_<n>`: a used clone that waits to be dropped.
    #[must_use]
    pub fn old(pool: &PoolName, number: i64) -> Self {
        Self(format!("{pool}_old_{number}"))
    }

    /// `myapp_test_kept_<n>`: a used clone that somebody wants to look at.
    #[must_use]
    pub fn kept(pool: &PoolName, number: i64) -> Self {
        Self(format!("{pool}_kept_{number}"))
    }

    /// `myapp_test_build_<n>`: a template while it is built.
    #[must_use]
    pub fn build(pool: &PoolName, number: i64) -> Self {
        Self(format!("{pool}_build_{number}"))
    }

    /// `myapp_test_template_<12 hex digits>`: a published template.
    #[must_use]
    pub fn template(pool: &PoolName, fingerprint: &Fingerprint) -> Self {
        Self(format!("{pool}_template_{}", fingerprint.short()))
    }

    /// Recognises a name of this pool's; `None` for every other text.
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

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A database that the tests of a lease made themselves (`login = "createdb"`). Told by its owner alone, whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestsOwnDatabase(String);

impl TestsOwnDatabase {
    /// Takes a name from the server's list, beside its owner's. `None` unless the owner is a login that only we give.
    #[must_use]
    pub fn of_login(owner: &str, name: &str) -> Option<Self> {
        RoleName::is_login_of_ours(owner).then(|| Self(name.to_owned()))
    }

    /// One that was handed to the owner role of a pool, which only logins of leases act as.
    #[must_use]
    pub fn of_pool_owner(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// `pgdibs_moved_<16 hex digits>`: the name of one that had a name which pgdibs gives itself.
    #[must_use]
    pub fn moved(random: u64) -> Self {
        Self(format!("pgdibs_moved_{random:016x}"))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The slot that a worker id asks for: `gw3` asks for slot 3; any other text asks for none.
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

/// Digits as we write them: no sign, no leading zero, at most 18 (fits a bigint).
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
    fn a_pool_name_is_a_plain_identifier_that_leaves_room() {
        let longest = "a".repeat(40);
        for good in ["a", "_", "myapp_test", "x0", longest.as_str()] {
            assert!(PoolName::parse(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(41);
        for bad in ["", "0a", "A", "my-app", "a\"b", "a;drop", "é", "a b", "a\0", too_long.as_str()] {
            let error = PoolName::parse(bad).expect_err(bad).to_string();
            assert!(error.starts_with("pool: ") && error.contains("1 to 40 characters"), "{error}");
        }
    }

    #[test]
    fn pool_names_whose_role_has_another_purpose_are_refused() {
        for bad in ["owner", "l_5", "l_0", "l_007", "l_12345678901234567890"] {
            let error = PoolName::parse(bad).expect_err(bad).to_string();
            assert!(error.contains("is reserved") && error.contains(&format!("\"{bad}_test\"")), "{error}");
        }
        for good in ["owners", "owner_test", "_owner", "l", "l_", "l_5_test", "l_a", "ll_5"] {
            let role = RoleName::of_pool(&PoolName::parse(good).expect(good));
            assert_ne!(role, RoleName::database_owner());
            assert!(!RoleName::is_login_of_ours(role.as_str()), "{role}");
        }
    }

    #[test]
    fn no_name_of_ours_reaches_the_length_at_which_postgres_truncates() {
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
    fn names_that_only_look_like_ours_are_not_recognised() {
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
            "app_test_gw0",
            "xapp_gw0",
        ] {
            assert_eq!(DatabaseName::recognise(&pool, foreign), None, "{foreign}");
        }
    }

    #[test]
    fn only_a_worker_of_xdist_asks_for_a_slot() {
        assert_eq!(preferred_slot("gw0"), Some(0));
        assert_eq!(preferred_slot("gw12"), Some(12));
        for other in ["", "gw", "master", "gw-1", "gw007", "gw99999999999"] {
            assert_eq!(preferred_slot(other), None, "{other}");
        }
    }
}
