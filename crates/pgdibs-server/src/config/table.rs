//! Declares a table of the configuration in one place: the struct that serde reads, and the keys that flags, the documentation page,
//! `pgdibs config` and the suggestions are made from.

use super::types::Kind;

/// One key of a table.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    /// The lines of the doc comment; the first one is the short help.
    pub help: &'static [&'static str],
    pub kind: Kind,
    /// As a user would write it in a variable; in parentheses: what happens without a value.
    pub default: &'static str,
    pub value_name: &'static str,
    pub scope: Scope,
}

/// What can set the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The file, a variable and a flag of every command.
    Global,
    /// The file, a variable and a flag of the commands that run a daemon.
    Daemon,
    /// A flag of the commands that run a daemon.
    FlagOnly,
    FileOnly,
}

impl Key {
    /// `PGDIBS_LISTEN` for `listen`.
    pub fn variable(&self) -> Option<String> {
        let variable = matches!(self.scope, Scope::Global | Scope::Daemon);
        variable.then(|| format!("PGDIBS_{}", self.name.to_ascii_uppercase()))
    }
}

/// `key: Type = "default";` for a key of the file, `key: Type = "default", "VALUE_NAME", Scope;` for a setting.
macro_rules! table {
    (@scope) => { super::table::Scope::FileOnly };
    (@scope $scope:ident) => { super::table::Scope::$scope };
    ($(#[$about:meta])* $table:ident {$(
        $(#[doc = $help:literal])+
        $(#[serde($($serde:tt)*)])?
        $name:ident: $type:ty = $default:literal $(, $value_name:literal, $scope:ident)?;
    )*}) => {
        $(#[$about])*
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields, expecting = "a table")]
        pub struct $table {$(
            $(#[doc = $help])+
            $(#[serde($($serde)*)])?
            pub $name: $type,
        )*}

        impl $table {
            pub const KEYS: &'static [super::table::Key] = &[$(super::table::Key {
                name: stringify!($name),
                help: &[$($help),+],
                kind: <$type as super::types::SettingType>::KIND,
                default: $default,
                value_name: concat!("" $(, $value_name)?),
                scope: table!(@scope $($scope)?),
            }),*];
        }
    };
}
pub(crate) use table;
