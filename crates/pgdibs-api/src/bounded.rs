//! Field types that check their own rule while they are read, so that an error names the field and the rule.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pgdibs_core::name::{Fingerprint, InvalidName, PoolName, RoleName, shown};
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::limits::LONGEST_WAIT;

/// An integer from `MIN` to `MAX`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BoundedInteger<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> BoundedInteger<MIN, MAX> {
    /// The number; `None` when it is out of bounds.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        (MIN..=MAX).contains(&number).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The number as core counts it. The bounds of every field that is read so are below `u32::MAX`.
    #[must_use]
    pub fn as_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for BoundedInteger<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntegerVisitor::<MIN, MAX>)
    }
}

struct IntegerVisitor<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Visitor<'_> for IntegerVisitor<MIN, MAX> {
    type Value = BoundedInteger<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        BoundedInteger::new(number).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        let read = u64::try_from(number).ok().and_then(BoundedInteger::new);
        read.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    /// JSON has one kind of number, and some languages write every one of them with a point: `60.0`.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and within bounds that a u64 holds"
    )]
    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        let whole = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
        let read = whole.then_some(number as u64).and_then(BoundedInteger::new);
        read.ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }
}

/// `wait_seconds`: from 0 to [`LONGEST_WAIT`], fractions allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WaitSeconds(Duration);

impl WaitSeconds {
    /// The wait; `None` when it is longer than [`LONGEST_WAIT`].
    #[must_use]
    pub fn new(wait: Duration) -> Option<Self> {
        (wait <= LONGEST_WAIT).then_some(Self(wait))
    }

    /// The wait.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl Serialize for WaitSeconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

impl<'de> Deserialize<'de> for WaitSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WaitVisitor)
    }
}

struct WaitVisitor;

impl Visitor<'_> for WaitVisitor {
    type Value = WaitSeconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number of seconds from 0 to {}", LONGEST_WAIT.as_secs())
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<WaitSeconds, E> {
        let read = WaitSeconds::new(Duration::from_secs(seconds));
        read.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(seconds), &self))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<WaitSeconds, E> {
        let read = u64::try_from(seconds).ok().and_then(|seconds| WaitSeconds::new(Duration::from_secs(seconds)));
        read.ok_or_else(|| E::invalid_value(Unexpected::Signed(seconds), &self))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<WaitSeconds, E> {
        let read = Duration::try_from_secs_f64(seconds).ok().and_then(WaitSeconds::new);
        read.ok_or_else(|| E::invalid_value(Unexpected::Float(seconds), &self))
    }
}

/// Seconds that something took: from 0 to 10 million, fractions allowed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Seconds(f64);

impl Seconds {
    const MAX: f64 = 10_000_000.0;

    /// The seconds.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        match (0.0..=Self::MAX).contains(&seconds) {
            true => Ok(Self(seconds)),
            false => Err(D::Error::custom(format!("{seconds} is not a number of seconds from 0 to {:.0}", Self::MAX))),
        }
    }
}

/// Text of `MIN` to `MAX` characters without control characters: it is shown in log lines and on terminals.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BoundedText<const MIN: usize, const MAX: usize>(String);

/// What names something: a run, a worker, an alias.
pub type Label = BoundedText<1, 200>;

/// Free text for people: a holder, a reason.
pub type Text = BoundedText<0, 200>;

impl<const MIN: usize, const MAX: usize> BoundedText<MIN, MAX> {
    /// Checks the rule.
    ///
    /// # Errors
    /// The rule, as a sentence without the field.
    pub fn new(text: impl Into<String>) -> Result<Self, String> {
        let text = text.into();
        if (MIN..=MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
            return Ok(Self(text));
        }
        Err(format!("\"{}\" is not {MIN} to {MAX} characters without control characters", shown(&text)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for BoundedText<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A secret that the caller shows. No error quotes it, and it has no `Debug`.
#[derive(Clone, Serialize)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret as it was answered.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Label::new(String::deserialize(deserializer)?) {
            Ok(text) => Ok(Self(text.0)),
            Err(_) => Err(D::Error::custom("must be 1 to 200 characters without control characters")),
        }
    }
}

/// Some lines of text, such as why a build failed: at most 10,000 characters, line breaks included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MultilineText(String);

impl MultilineText {
    const MAX: usize = 10_000;

    /// The beginning of a text, as far as it fits, without NUL.
    #[must_use]
    pub fn truncated(text: &str) -> Self {
        Self(text.chars().filter(|&c| c != '\0').take(Self::MAX).collect())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for MultilineText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.chars().count() > Self::MAX || text.contains('\0') {
            return Err(D::Error::custom(format!("must be 0 to {} characters without NUL", Self::MAX)));
        }
        Ok(Self(text))
    }
}

/// A name of core, on the wire as its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<T>(pub T);

/// A pool by name.
pub type PoolField = Name<PoolName>;

/// A template by its fingerprint.
pub type FingerprintField = Name<Fingerprint>;

/// A role by name.
pub type RoleField = Name<RoleName>;

/// A name with a rule of its own.
pub trait NameRule: Sized {
    /// What the schema of the name is called.
    const SCHEMA: &'static str;
    /// The rule as a regular expression.
    const PATTERN: &'static str;
    /// Most characters, where the pattern does not say it.
    const MAX_LENGTH: Option<usize>;

    /// Checks the rule.
    ///
    /// # Errors
    /// When the text breaks it.
    fn parse(text: &str) -> Result<Self, InvalidName>;

    /// The name as text.
    fn as_str(&self) -> &str;
}

macro_rules! name_rules {
    ($($name:ident, $pattern:literal, $max:expr, $parse:expr;)*) => {$(
        impl NameRule for $name {
            const SCHEMA: &'static str = stringify!($name);
            const PATTERN: &'static str = $pattern;
            const MAX_LENGTH: Option<usize> = $max;

            fn parse(text: &str) -> Result<Self, InvalidName> {
                $parse(text)
            }

            fn as_str(&self) -> &str {
                self.as_str()
            }
        }
    )*};
}

name_rules! {
    PoolName, "^[a-z_][a-z0-9_]{0,39}$", None, PoolName::parse;
    Fingerprint, "^[^\\u0000]*$", Some(200), Fingerprint::parse;
    RoleName, "^(?!pg_|public$|none$)[^\\u0000]*$", Some(63), |text| RoleName::parse("roles", text);
}

impl<T: NameRule> Serialize for Name<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de, T: NameRule> Deserialize<'de> for Name<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::parse(&String::deserialize(deserializer)?).map(Self).map_err(|error| D::Error::custom(error.rule))
    }
}

/// A list of `MIN` to `MAX` entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BoundedList<T, const MIN: usize, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Default for BoundedList<T, 0, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MIN: usize, const MAX: usize> BoundedList<T, MIN, MAX> {
    /// Checks the length.
    ///
    /// # Errors
    /// The rule, as a sentence without the field.
    pub fn new(list: Vec<T>) -> Result<Self, String> {
        match (MIN..=MAX).contains(&list.len()) {
            true => Ok(Self(list)),
            false => Err(format!("must have {MIN} to {MAX} entries, not {}", list.len())),
        }
    }

    /// The entries.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<'de, T: Deserialize<'de>, const MIN: usize, const MAX: usize> Deserialize<'de> for BoundedList<T, MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Values by name, at most `MAX` of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BoundedMap<V, const MAX: usize>(BTreeMap<Label, V>);

impl<V, const MAX: usize> Default for BoundedMap<V, MAX> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V, const MAX: usize> BoundedMap<V, MAX> {
    /// Whether it has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&V> {
        self.0.iter().find_map(|(known, value)| (known.as_str() == name).then_some(value))
    }

    /// The entries.
    #[must_use]
    pub fn into_map(self) -> BTreeMap<Label, V> {
        self.0
    }
}

impl<'de, V: Deserialize<'de>, const MAX: usize> Deserialize<'de> for BoundedMap<V, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map: BTreeMap<Label, V> = BTreeMap::deserialize(deserializer)?;
        match map.len() <= MAX {
            true => Ok(Self(map)),
            false => Err(D::Error::custom(format!("must have at most {MAX} entries, not {}", map.len()))),
        }
    }
}

/// A setting that no request may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConfiguredOnly;

impl<'de> Deserialize<'de> for ConfiguredOnly {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("is set in the daemon's configuration file only, not over HTTP"))
    }
}

const NO_CONTROL_CHARACTERS: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

fn text_schema(pattern: &str, min: usize, max: Option<usize>) -> ObjectBuilder {
    let min = (min > 0).then_some(min);
    ObjectBuilder::new().schema_type(Type::String).min_length(min).max_length(max).pattern(Some(pattern))
}

fn number_schema(kind: Type, min: u64, max: u64) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind).minimum(Some(min)).maximum(Some(max))
}

macro_rules! schema {
    ([$($generic:tt)*] $type:ty, $name:expr, $schema:expr) => {
        impl<$($generic)*> PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }

        impl<$($generic)*> ToSchema for $type {
            fn name() -> Cow<'static, str> {
                $name.into()
            }
        }
    };
}

// Two types with one rule share a schema; a name that two rules shared would hide one of them.
schema!([const MIN: u64, const MAX: u64] BoundedInteger<MIN, MAX>, format!("Integer{MIN}To{MAX}"), number_schema(Type::Integer, MIN, MAX));
schema!([] WaitSeconds, "WaitSeconds", number_schema(Type::Number, 0, LONGEST_WAIT.as_secs()));
schema!([const MIN: usize, const MAX: usize] BoundedText<MIN, MAX>, format!("Text{MIN}To{MAX}"), text_schema(NO_CONTROL_CHARACTERS, MIN, Some(MAX)));
schema!([] Seconds, "Seconds", number_schema(Type::Number, 0, 10_000_000));
schema!([] Secret, "Secret", text_schema(NO_CONTROL_CHARACTERS, 1, Some(200)));
schema!([] MultilineText, "MultilineText", text_schema("^[^\\u0000]*$", 0, Some(MultilineText::MAX)));
schema!([T: NameRule] Name<T>, T::SCHEMA, text_schema(T::PATTERN, usize::from(T::MAX_LENGTH.is_some()), T::MAX_LENGTH));

impl<T: ToSchema, const MIN: usize, const MAX: usize> PartialSchema for BoundedList<T, MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        let min = (MIN > 0).then_some(MIN);
        ArrayBuilder::new().items(Ref::from_schema_name(T::name())).min_items(min).max_items(Some(MAX)).into()
    }
}

impl<T: ToSchema, const MIN: usize, const MAX: usize> ToSchema for BoundedList<T, MIN, MAX> {
    fn name() -> Cow<'static, str> {
        format!("{}List{MIN}To{MAX}", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

impl<V: ToSchema, const MAX: usize> PartialSchema for BoundedMap<V, MAX> {
    fn schema() -> RefOr<Schema> {
        let names = Schema::from(text_schema(NO_CONTROL_CHARACTERS, 1, Some(200)).build());
        let object =
            ObjectBuilder::new().schema_type(Type::Object).max_properties(Some(MAX)).property_names(Some(names));
        object.additional_properties(Some(V::schema())).into()
    }
}
