//! Field types that check their own range while they are read, so that a refusal names the field and the rule by itself.

use std::fmt;
use std::time::Duration;

use pgdibs_core::name::{Fingerprint, PoolName, shown};
use secrecy::SecretString;
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// A whole number within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BoundedInteger<const LEAST: u64, const MOST: u64>(pub(super) u64);

impl<const LEAST: u64, const MOST: u64> BoundedInteger<LEAST, MOST> {
    /// The number as the domain counts it; the bounds of the fields that call this are far below `u32::MAX`.
    pub(super) fn as_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for BoundedInteger<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(BoundedIntegerReader::<LEAST, MOST>).map(Self)
    }
}

struct BoundedIntegerReader<const LEAST: u64, const MOST: u64>;

impl<const LEAST: u64, const MOST: u64> Visitor<'_> for BoundedIntegerReader<LEAST, MOST> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {LEAST} to {MOST}")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        if (LEAST..=MOST).contains(&number) {
            Ok(number)
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(number), &self))
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    /// JSON knows one kind of number, and some languages write every one of them with a point: `60.0`.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and within bounds that a u64 holds"
    )]
    fn visit_f64<E: Error>(self, number: f64) -> Result<u64, E> {
        if number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number) {
            self.visit_u64(number as u64)
        } else {
            Err(E::invalid_value(Unexpected::Float(number), &self))
        }
    }
}

/// `wait_seconds`: 0 to 600, fractions allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wait(pub(super) Duration);

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(WaitReader)
    }
}

struct WaitReader;

impl Visitor<'_> for WaitReader {
    type Value = Wait;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number of seconds from 0 to {}", crate::service::LONGEST_WAIT.as_secs())
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Wait, E> {
        let wait = Duration::from_secs(seconds);
        if wait <= crate::service::LONGEST_WAIT {
            Ok(Wait(wait))
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(seconds), &self))
        }
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Wait, E> {
        match u64::try_from(seconds) {
            Ok(seconds) => self.visit_u64(seconds),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(seconds), &self)),
        }
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Wait, E> {
        match Duration::try_from_secs_f64(seconds) {
            Ok(wait) if wait <= crate::service::LONGEST_WAIT => Ok(Wait(wait)),
            _ => Err(E::invalid_value(Unexpected::Float(seconds), &self)),
        }
    }
}

/// Text of bounded length (in characters) without control characters: it ends up in log lines and on terminals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text<const LEAST: usize, const MOST: usize>(pub(super) String);

impl<const LEAST: usize, const MOST: usize> Text<LEAST, MOST> {
    /// Checks the rule.
    ///
    /// # Errors
    /// The rule, as a sentence without the field.
    pub(super) fn check(text: String) -> Result<Self, String> {
        if (LEAST..=MOST).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
            return Ok(Self(text));
        }
        Err(format!("\"{}\" is not {LEAST} to {MOST} characters without control characters", shown(&text)))
    }
}

impl<'de, const LEAST: usize, const MOST: usize> Deserialize<'de> for Text<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        Self::check(String::deserialize(reader)?).map_err(D::Error::custom)
    }
}

/// What names something: a run, a worker, an alias.
pub(super) type Named = Text<1, 200>;

/// A secret that the caller shows: no refusal quotes it, and its type cannot be printed.
#[derive(Debug, Clone)]
pub(super) struct SecretField(pub(super) SecretString);

impl<'de> Deserialize<'de> for SecretField {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = String::deserialize(reader)?;
        match Named::check(text) {
            Ok(Text(text)) => Ok(Self(text.into())),
            Err(_) => Err(D::Error::custom("must be 1 to 200 characters without control characters")),
        }
    }
}

/// Free text for people: a holder, a reason.
pub(super) type Note = Text<0, 200>;

/// Some lines for people (why a build failed), line breaks and all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MultilineText(pub(super) String);

impl<'de> Deserialize<'de> for MultilineText {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = String::deserialize(reader)?;
        if text.chars().count() > 10_000 || text.contains('\0') {
            return Err(D::Error::custom("must be 0 to 10000 characters without NUL"));
        }
        Ok(Self(text))
    }
}

/// A pool by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PoolField(pub(super) PoolName);

impl<'de> Deserialize<'de> for PoolField {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        PoolName::parse(&String::deserialize(reader)?).map(Self).map_err(|error| D::Error::custom(error.rule))
    }
}

/// A fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FingerprintField(pub(super) Fingerprint);

impl<'de> Deserialize<'de> for FingerprintField {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        Fingerprint::parse(&String::deserialize(reader)?).map(Self).map_err(|error| D::Error::custom(error.rule))
    }
}

/// A list of bounded length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Some100<T, const LEAST: usize>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const LEAST: usize> Deserialize<'de> for Some100<T, LEAST> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let list = Vec::<T>::deserialize(reader)?;
        if (LEAST..=100).contains(&list.len()) {
            return Ok(Self(list));
        }
        Err(D::Error::custom(format!("must have {LEAST} to 100 entries, not {}", list.len())))
    }
}

/// A setting that a request may not carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConfiguredOnly;

impl<'de> Deserialize<'de> for ConfiguredOnly {
    fn deserialize<D: Deserializer<'de>>(_reader: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("is set in the daemon's configuration file only, not over HTTP"))
    }
}
