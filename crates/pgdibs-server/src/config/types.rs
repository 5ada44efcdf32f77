//! The types of settings: each reads its value with serde and carries its rule.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use pgdibs_core::name::RoleName;
use pgdibs_core::pool::{ActAs, Extension, LoginRights, StrategyChoice};
use secrecy::SecretString;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Value;

/// How the text of a flag or variable is read, and whether `pgdibs config` masks the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Secret,
    Boolean,
    /// Both bounds are included.
    Integer(u32, u32),
}

impl Kind {
    /// The value of a flag's or variable's text; the file has typed values. A text of another kind stays a string, which the setting's
    /// type refuses.
    pub fn parse(self, text: &str) -> Value {
        let plain = text.trim().to_ascii_lowercase();
        match (self, plain.as_str()) {
            (Self::Boolean, "true" | "1" | "yes" | "on") => true.into(),
            (Self::Boolean, "false" | "0" | "no" | "off") => false.into(),
            (Self::Integer(..), number) => number.parse::<i64>().map_or_else(|_| text.into(), Value::from),
            _ => text.into(),
        }
    }
}

pub trait SettingType {
    const KIND: Kind = Kind::Text;
}

macro_rules! texts {
    ($($type:ty),*) => { $(impl SettingType for $type {})* };
}
texts!(PathBuf, SocketAddr, String, ActAs, LoginRights, RoleName, StrategyChoice, Identifier, Vec<RoleName>);
texts!(Vec<Extension>, Locale, Vec<String>, BTreeMap<String, SecretString>);

impl SettingType for bool {
    const KIND: Kind = Kind::Boolean;
}

impl SettingType for SecretString {
    const KIND: Kind = Kind::Secret;
}

impl<const LOW: u32, const HIGH: u32> SettingType for BoundedInteger<LOW, HIGH> {
    const KIND: Kind = Kind::Integer(LOW, HIGH);
}

impl<T: SettingType> SettingType for Option<T> {
    const KIND: Kind = T::KIND;
}

/// Both bounds are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub struct BoundedInteger<const LOW: u32, const HIGH: u32>(pub(crate) u32);

impl<const LOW: u32, const HIGH: u32> TryFrom<Value> for BoundedInteger<LOW, HIGH> {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
        let bounded = number.filter(|number| (LOW..=HIGH).contains(number));
        bounded.map(Self).ok_or_else(|| format!("expected a whole number from {LOW} to {HIGH}, found {value}"))
    }
}

impl<const LOW: u32, const HIGH: u32> BoundedInteger<LOW, HIGH> {
    pub fn seconds(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0.into())
    }
}

/// A type with a rule of its own, whose error is the end of a sentence.
pub trait FromText: Sized {
    fn from_text(text: String) -> Result<Self, String>;
}

/// A name that Postgres takes without truncating it.
#[derive(Debug, Clone)]
pub struct Identifier(pub(crate) String);

impl FromText for Identifier {
    fn from_text(text: String) -> Result<Self, String> {
        if (1..=63).contains(&text.len()) && !text.contains(char::is_control) {
            return Ok(Self(text));
        }
        let written = text.escape_default();
        Err(format!("`{written}` is not a name in Postgres; names have 1 to 63 bytes and no control characters"))
    }
}

impl FromText for RoleName {
    fn from_text(text: String) -> Result<Self, String> {
        let Identifier(text) = Identifier::from_text(text)?;
        match Self::parse("role", &text) {
            Ok(role) if role != Self::database_owner() => Ok(role),
            _ => Err(format!("`{text}` is reserved by Postgres or by pgdibs; choose another role")),
        }
    }
}

impl FromText for StrategyChoice {
    fn from_text(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is not a strategy; auto, wal_log and file_copy are"))
    }
}

/// A locale or an encoding. A wrong one fails at the build, since the server knows which there are.
#[derive(Debug, Clone)]
pub struct Locale(pub(crate) String);

impl FromText for Locale {
    fn from_text(text: String) -> Result<Self, String> {
        if text.len() <= 100 && !text.contains(char::is_control) {
            return Ok(Self(text));
        }
        Err(format!("`{}` is no locale; at most 100 bytes, and no control characters", text.escape_default()))
    }
}

impl FromText for ActAs {
    fn from_text(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is no role to act as; owner and login are"))
    }
}

impl FromText for LoginRights {
    fn from_text(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is not a login; plain, createdb and superuser are"))
    }
}

impl FromText for SocketAddr {
    fn from_text(text: String) -> Result<Self, String> {
        text.parse().ok().filter(|address: &Self| address.port() != 0).ok_or_else(|| {
            format!(
                "`{text}` is not an IP address and a port; write 0.0.0.0:5432, an IPv6 address as [::]:5432, or leave it out \
                 for loopback and a port of its own"
            )
        })
    }
}

/// An empty path would be the directory at which relative paths start.
pub fn path<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<PathBuf>, D::Error> {
    let text = Some(String::deserialize(reader)?).filter(|text| !text.trim().is_empty());
    let empty = || D::Error::custom("the value is empty; give a path or leave the setting out");
    text.map(|text| Some(text.into())).ok_or_else(empty)
}

pub fn parsed<'de, D: Deserializer<'de>, T: FromText>(reader: D) -> Result<Option<T>, D::Error> {
    T::from_text(String::deserialize(reader)?).map(Some).map_err(D::Error::custom)
}

pub fn parsed_list<'de, D: Deserializer<'de>, T: FromText>(reader: D) -> Result<Option<Vec<T>>, D::Error> {
    let words: Vec<String> = StringList::deserialize(reader)?.into();
    words.into_iter().map(T::from_text).collect::<Result<_, _>>().map(Some).map_err(D::Error::custom)
}

/// An entry of `extensions`: a name, or a table with the name and the schema.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected the name of an extension, or a table such as { name = \"pgcrypto\", schema = \"ext\" }"
)]
enum ExtensionEntry {
    Name(String),
    InSchema(ExtensionTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtensionTable {
    name: String,
    schema: String,
}

impl TryFrom<ExtensionEntry> for Extension {
    type Error = String;

    fn try_from(entry: ExtensionEntry) -> Result<Self, String> {
        let (name, schema) = match entry {
            ExtensionEntry::Name(name) => (name, None),
            ExtensionEntry::InSchema(table) => (table.name, Some(table.schema)),
        };
        let name = Identifier::from_text(name)?.0;
        Ok(Self { name, schema: schema.map(Identifier::from_text).transpose()?.map(|schema| schema.0) })
    }
}

pub fn extensions<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<Vec<Extension>>, D::Error> {
    let entries: Vec<ExtensionEntry> = Vec::deserialize(reader)?;
    entries.into_iter().map(Extension::try_from).collect::<Result<_, _>>().map(Some).map_err(D::Error::custom)
}

/// An array of strings or, as in flags and variables, one string with commas. Blank entries do not count.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected an array of strings")]
pub enum StringList {
    Text(String),
    Array(Vec<String>),
}

impl From<StringList> for Vec<String> {
    fn from(words: StringList) -> Self {
        let words = match words {
            StringList::Text(text) => text.split(',').map(str::to_owned).collect(),
            StringList::Array(words) => words,
        };
        words.iter().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
    }
}

pub fn string_list<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<String>, D::Error> {
    StringList::deserialize(reader).map(Vec::from)
}
