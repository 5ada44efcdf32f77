//! A connection URL of Postgres, and the variables that libpq and applications read it from.

use percent_encoding::percent_decode_str;
use reqwest::Url;

/// The URL is not one of Postgres. The URL is not shown: it carries a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daemon handed out a URL that is not one of Postgres")]
pub struct NotPostgres;

/// Variables that libpq lets win over PGHOST and its like. Inherited ones would lead past the leased database.
///
/// PGPASSFILE is none of them, since PGPASSWORD wins over it, nor is PGOPTIONS, which cannot name a server or a database.
pub const MISLEADING: [&str; 2] = ["PGSERVICE", "PGHOSTADDR"];

/// The variable that names a file of services. A program that asks for a service by name finds another server there.
pub const SERVICE_FILE: &str = "PGSERVICEFILE";

/// Parameters of a URL and the variables that say the same.
const PARAMETERS: [(&str, &str); 6] = [
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
];

/// PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE, and those of the URL's parameters.
///
/// # Errors
/// [`NotPostgres`] when the scheme is neither `postgresql` nor `postgres`.
pub fn libpq_variables(url: &str) -> Result<Vec<(&'static str, String)>, NotPostgres> {
    // A socket's URL has no host, and this parser wants one beside a user.
    let parsed = Url::parse(&url.replacen("@/", "@localhost/", 1))
        .ok()
        .filter(|url| matches!(url.scheme(), "postgresql" | "postgres"));
    let Some(parsed) = parsed else {
        return Err(NotPostgres);
    };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let host = parsed.host_str().unwrap_or("localhost");
    let mut variables = vec![
        ("PGHOST", decoded(host.trim_start_matches('[').trim_end_matches(']'))),
        ("PGPORT", parsed.port().unwrap_or(5432).to_string()),
        ("PGUSER", decoded(parsed.username())),
        ("PGPASSWORD", decoded(parsed.password().unwrap_or_default())),
        ("PGDATABASE", decoded(parsed.path().trim_start_matches('/'))),
    ];
    for (key, value) in parsed.query_pairs() {
        // Of a socket.
        if let Some((_, set)) =
            variables.iter_mut().take(2).find(|(name, _)| *name == format!("PG{}", key.to_uppercase()))
        {
            *set = value.clone().into_owned();
        }
        variables.extend(
            PARAMETERS
                .iter()
                .filter(|(name, _)| *name == key)
                .map(|(_, variable)| (*variable, value.clone().into_owned())),
        );
    }
    Ok(variables)
}

/// The same URL with another database. Everything else stays letter by letter, the password's encoding included.
pub fn with_database(url: &str, database: &str) -> String {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let path = url.get(authority..end).and_then(|rest| rest.find('/')).map_or(end, |at| authority + at);
    format!("{}/{database}{}", &url[..path], &url[end..])
}

/// The same URL with another scheme, such as `postgresql+asyncpg`.
pub fn with_scheme(url: &str, scheme: &str) -> String {
    match url.split_once("://") {
        Some((_, rest)) => format!("{scheme}://{rest}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_socket_have_its_directory_and_port() {
        let url = "postgresql://pgdibs_l_7:p%40%2F@/myapp_test_gw0?host=%2Frun%2Fpostgresql&port=5433&sslmode=disable";
        let variables = libpq_variables(url).unwrap();
        let read = |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str());
        let found = ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE"].map(read);
        assert_eq!(
            found.map(Option::unwrap),
            ["/run/postgresql", "5433", "pgdibs_l_7", "p@/", "myapp_test_gw0", "disable"]
        );
        assert_eq!(variables.len(), 6);
        assert!(with_database(url, "other").contains("@/other?host=%2Frun"));
    }

    const URL: &str = "postgresql://pgdibs_l_7:p%40ss%2Fw%3F@127.0.0.1:54321/myapp_test_gw0?sslmode=require&x=1";

    #[test]
    fn libpq_gets_the_same_decoded() {
        let variables = libpq_variables(URL).unwrap();
        let expected = [
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", "54321"),
            ("PGUSER", "pgdibs_l_7"),
            ("PGPASSWORD", "p@ss/w?"),
            ("PGDATABASE", "myapp_test_gw0"),
            ("PGSSLMODE", "require"),
        ];
        assert_eq!(variables, expected.map(|(name, value)| (name, value.to_owned())));
        let variables = libpq_variables("postgresql://u:p@[::1]/d").unwrap();
        assert_eq!(variables[..2], [("PGHOST", "::1".to_owned()), ("PGPORT", "5432".to_owned())]);
    }

    #[test]
    fn a_url_of_something_else_is_refused_without_showing_it() {
        let told = libpq_variables("mysql://root:secret@h/d").unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
    }

    #[test]
    fn only_the_named_part_of_a_url_changes() {
        assert_eq!(
            with_database(URL, "myapp_test"),
            "postgresql://pgdibs_l_7:p%40ss%2Fw%3F@127.0.0.1:54321/myapp_test?sslmode=require&x=1"
        );
        assert_eq!(with_database("postgresql://u:p@h:1/a", "b"), "postgresql://u:p@h:1/b");
        assert_eq!(with_database("postgresql://u:p@h:1?x=/y", "b"), "postgresql://u:p@h:1/b?x=/y");
        assert_eq!(with_scheme("postgresql://u@h/a", "postgresql+asyncpg"), "postgresql+asyncpg://u@h/a");
    }
}
