//! What a fuzz target may reach of the command line: how it reads a URL that the daemon hands out.

use super::connection::libpq_variables;

/// Reads a URL that `http::responses` wrote; panics when it does not find what went in.
pub(crate) fn reads_what_was_written(url: &str, host: &str, user: &str, password: &str, database: &str) {
    let variables = libpq_variables(url).unwrap_or_else(|_| panic!("our own URL cannot be read: {url:?}"));
    let read =
        |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value.as_str());
    assert_eq!(
        [read("PGHOST"), read("PGUSER"), read("PGPASSWORD"), read("PGDATABASE")],
        [host, user, password, database],
        "{url:?}"
    );
}
