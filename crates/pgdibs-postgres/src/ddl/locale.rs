//! The clauses of CREATE DATABASE for the locale and the encoding of a build's database.

use std::fmt;

use pgdibs_core::pool::Locale;

use super::text::literal;

/// The clauses, each after a blank. Without any, the database has the locale of `template0`.
#[derive(Debug, Default)]
pub struct LocaleClauses(String);

impl fmt::Display for LocaleClauses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl LocaleClauses {
    /// What a pool sets. A `locale` is one of the C library, also on a server whose default is one of ICU.
    pub fn of_pool(locale: &Locale, major: u32) -> Self {
        let option = |before: &str, text: &str| match text.is_empty() {
            true => String::new(),
            false => format!(" {before} = {}", literal(text)),
        };
        let libc = if locale.icu_locale.is_empty() && major >= 15 { "locale_provider = libc locale" } else { "locale" };
        let options = [
            option("encoding", &locale.encoding),
            option(libc, &locale.locale),
            option("locale_provider = icu icu_locale", &locale.icu_locale),
        ];
        Self(options.concat())
    }
}

/// The encoding and the locale of a database, from `pg_database`.
#[derive(Debug, sqlx::FromRow)]
pub struct DatabaseLocale {
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    /// `c`, `i` (ICU), `b` (builtin), from Postgres 15 on.
    pub provider: Option<String>,
    /// Of a provider other than `c`.
    pub locale: Option<String>,
    /// Of ICU, from Postgres 16 on.
    pub rules: Option<String>,
}

impl DatabaseLocale {
    /// For a database with the same.
    pub fn clauses(&self) -> LocaleClauses {
        let mut clauses = format!(
            " encoding = {} lc_collate = {} lc_ctype = {}",
            literal(&self.encoding),
            literal(&self.collate),
            literal(&self.ctype)
        );
        let (provider, key) = match self.provider.as_deref() {
            None => return LocaleClauses(clauses),
            Some("i") => ("icu", "icu_locale"),
            Some("b") => ("builtin", "builtin_locale"),
            Some(_) => ("libc", ""),
        };
        clauses.push_str(&format!(" locale_provider = {provider}"));
        for (key, value) in [(key, &self.locale), ("icu_rules", &self.rules)] {
            if let (false, Some(value)) = (key.is_empty(), value) {
                clauses.push_str(&format!(" {key} = {}", literal(value)));
            }
        }
        LocaleClauses(clauses)
    }
}
