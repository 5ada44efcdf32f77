//! The inherited environment: its variables with connection URLs of Postgres, and those that pgdibs has set.

use std::collections::BTreeMap;

/// The variable that lists the variables which pgdibs has set for a command. The pytest plugin takes no driver from these.
pub(super) const EXPORTED: &str = "PGDIBS_EXPORTED";

/// Schemes of URLs of Postgres databases, also those that URL parsers of Django and others accept.
const SCHEMES: [&str; 8] =
    ["postgresql", "postgres", "postgis", "pgsql", "psql", "timescale", "timescaledb", "timescalegis"];

/// Keywords of libpq's connection strings (`host=… dbname=…`).
const KEYWORDS: [&str; 22] = [
    "service",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "connect_timeout",
    "client_encoding",
    "options",
    "application_name",
    "keepalives",
    "keepalives_idle",
    "target_session_attrs",
    "channel_binding",
    "gssencmode",
];

/// The variables of this process, for reading: text that is not UTF-8 is replaced.
#[derive(Debug, Default)]
pub(super) struct Inherited(BTreeMap<String, String>);

impl Inherited {
    pub(super) fn of_this_process() -> Self {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect())
    }

    #[cfg(test)]
    pub(super) fn of(variables: &[(&str, &str)]) -> Self {
        Self(variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// A variable's value, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The scheme of a variable with a URL of Postgres, when it names a driver: `postgresql+asyncpg`, `postgis`.
    pub(super) fn driver_scheme(&self, name: &str) -> Option<&str> {
        let (scheme, _) = self.get(name)?.trim_start().split_once("://")?;
        let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let plain = ["postgresql", "postgres"].iter().any(|plain| scheme.eq_ignore_ascii_case(plain));
        (names_postgres(scheme) && scheme.chars().all(is_scheme) && !plain).then_some(scheme)
    }

    /// The variables with a URL or a connection string of Postgres, sorted, without the settings of pgdibs.
    pub(super) fn leading_to_postgres(&self) -> impl Iterator<Item = &str> {
        let others = self.0.iter().filter(|(name, _)| !name.starts_with("PGDIBS_"));
        others.filter(|(_, value)| holds_url(value) || is_connection_string(value)).map(|(name, _)| name.as_str())
    }

    /// The value of [`EXPORTED`] for a command that gets these variables. Those that an outer pgdibs has set stay listed.
    pub(super) fn exported<'a>(&'a self, names: impl Iterator<Item = &'a str>) -> String {
        let mut all: Vec<&str> = Vec::new();
        let before = self.get(EXPORTED).unwrap_or_default().split(',').map(str::trim);
        for name in before.filter(|name| self.0.contains_key(*name)).chain(names) {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        all.join(",")
    }
}

/// Whether a scheme is one of Postgres: `postgres`, `postgresql+asyncpg`, `db+postgresql`, `jdbc:postgresql`.
fn names_postgres(scheme: &str) -> bool {
    scheme.split(['+', ':']).any(|part| SCHEMES.iter().any(|known| part.eq_ignore_ascii_case(known)))
}

/// Whether a URL of Postgres is at the beginning of a text, or after a quote, `=`, a separator or a bracket, as in JSON, lists and
/// flags. A URL within prose, such as a commit message, does not count.
fn holds_url(value: &str) -> bool {
    value.match_indices("://").any(|(end, _)| {
        let before = &value[..end];
        let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | ':');
        let scheme = &before[before.trim_end_matches(is_scheme).len()..];
        let preceding = before[..before.len() - scheme.len()].trim_end_matches(['\\']);
        let is_start =
            preceding.trim().is_empty() || preceding.ends_with(['"', '\'', '=', ',', ';', '|', '[', '(', '{']);
        let has_rest = value[end + 3..].starts_with(|c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\'));
        is_start && has_rest && names_postgres(scheme)
    })
}

/// Whether a text is a connection string of libpq: only known keywords, among them a database or a server.
fn is_connection_string(value: &str) -> bool {
    let mut rest = value.trim();
    let mut found: Vec<&str> = Vec::new();
    while !rest.is_empty() {
        let Some((keyword, after)) = rest.split_once('=') else { return false };
        let keyword = keyword.trim_end();
        if !KEYWORDS.contains(&keyword) {
            return false;
        }
        found.push(keyword);
        let Some(after) = after_value(after.trim_start()) else { return false };
        rest = after.trim_start();
    }
    let names_target = found.iter().any(|keyword| ["service", "host", "hostaddr", "dbname"].contains(keyword));
    names_target && (found.len() > 1 || found == ["dbname"])
}

/// The text after a value of a connection string, quoted or not; `None` when its quote is not closed.
fn after_value(text: &str) -> Option<&str> {
    let (quoted, text) = text.strip_prefix('\'').map_or((false, text), |rest| (true, rest));
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if quoted && c == '\'' {
            return Some(&text[at + 1..]);
        } else if !quoted && c.is_whitespace() {
            return Some(&text[at..]);
        }
    }
    (!quoted).then_some("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_to_postgres_finds_urls_and_connection_strings() {
        for value in [
            "postgres://h/d",
            "postgresql://u:p@h:5432/d?sslmode=require",
            " postgresql+asyncpg://h/d",
            "POSTGRESQL+PSYCOPG://h/d",
            "postgis://h/d",
            "db+postgresql://h/d",
            "jdbc:postgresql://h/d",
            "r2dbc:pool:postgresql://h/d",
            "postgresql:///d",
            "\"postgres://h/d\"",
            "sqlite:///x,postgres://h/d",
            r#"{"default": "postgres://h/d"}"#,
            r#"{\"default\": \"postgres://h/d\"}"#,
            "-Ddb=jdbc:postgresql://h/d -Dx=y",
            "host=localhost dbname=shop user=me",
            "dbname=shop",
            "host = 'a \\' b' dbname = 'x y'",
            "service=shop user=me",
        ] {
            let inherited = Inherited::of(&[("X", value)]);
            assert_eq!(inherited.leading_to_postgres().collect::<Vec<_>>(), ["X"], "{value}");
        }
        for value in [
            "",
            "postgres",
            "postgres://",
            "postgresql:// is the scheme",
            "fix: take postgres://h/d from the settings",
            "mysql://postgres:postgresql@h/postgres",
            "https://postgresql.org/docs",
            "mypostgres://h/d",
            "sqlite:///postgres",
            "host=localhost",
            "service=shop",
            "label=postgres",
            "host=localhost port=80 path=/",
            "dbname='unclosed",
            "user=me password=x",
        ] {
            let inherited = Inherited::of(&[("X", value)]);
            assert_eq!(inherited.leading_to_postgres().count(), 0, "{value}");
        }
        let own = Inherited::of(&[("PGDIBS_SERVER_URL", "postgres://h/d"), ("PGDIBS_TOKEN", "postgres://h/d")]);
        assert_eq!(own.leading_to_postgres().count(), 0);
    }

    #[test]
    fn driver_scheme_needs_more_than_plain_postgres() {
        let scheme = |value: &str| Inherited::of(&[("X", value)]).driver_scheme("X").map(str::to_owned);
        assert_eq!(scheme("postgresql+asyncpg://h/d").as_deref(), Some("postgresql+asyncpg"));
        assert_eq!(scheme("postgis://h/d").as_deref(), Some("postgis"));
        assert_eq!(scheme("db+postgresql://h/d").as_deref(), Some("db+postgresql"));
        for value in ["", "postgresql://h/d", "Postgres://h/d", "mysql+pymysql://h/d", "jdbc:postgresql://h/d", "x"] {
            assert_eq!(scheme(value), None, "{value}");
        }
    }

    #[test]
    fn exported_keeps_outer_names_that_still_exist() {
        let none = Inherited::default();
        assert_eq!(none.exported(["A", "B", "A"].into_iter()), "A,B");
        let outer = Inherited::of(&[(EXPORTED, "B, C,GONE,,B"), ("B", "x"), ("C", "")]);
        assert_eq!(outer.exported(["A", "B"].into_iter()), "B,C,A");
    }
}
