//! The variables that tests and their tools read the database from.

use pgdibs_server::offline::{Finding, Severity};

use crate::table::plain;

/// Code that reads one of the two variables writes into another database than code that reads the other one.
pub(super) fn two_databases(variable: impl Fn(&str) -> Option<String>) -> Option<Finding> {
    let value = |name| variable(name).filter(|value| !value.is_empty());
    let (one, other) = (value("DATABASE_URL")?, value("TEST_DATABASE_URL")?);
    (without_secrets(&one) != without_secrets(&other)).then(|| {
        Finding::new(
            "variables",
            Severity::Warning,
            format!(
                "DATABASE_URL ({}) and TEST_DATABASE_URL ({}) name different databases: a worker or a script of the tests that reads the other one writes to the wrong database; set both from the lease, as pgdibs's pytest plugin does",
                without_secrets(&one),
                without_secrets(&other)
            ),
        )
    })
}

/// Host, port and database: what decides where a connection leads.
fn without_secrets(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    plain(rest.rsplit_once('@').map_or(rest, |(_, place)| place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_urls_are_found_and_equal_ones_are_not() {
        let found = |one: &str, other: &str| {
            two_databases(|name| Some(if name == "DATABASE_URL" { one } else { other }.to_owned()))
                .map(|finding| finding.text)
        };
        let text =
            found("postgresql://u:secret@db:5432/app", "postgresql+asyncpg://u:secret@db:5432/app_test?x=1").unwrap();
        assert!(
            text.contains("(db:5432/app) and") && text.contains("(db:5432/app_test)") && !text.contains("secret"),
            "{text}"
        );
        assert_eq!(found("postgresql://u:p@db/app", "postgresql+psycopg://v:q@db/app?sslmode=disable"), None);
        assert_eq!(found("postgresql://u:p@db/app", ""), None);
    }
}
