//! What fuzz targets call, one function for each: input comes from strangers, and a panic is a bug. The corpora in `fuzz/corpus` are
//! replayed by an ordinary test, so that what was found once stays found.

use pgdibs_postgres::connect::ServerAddress;
use secrecy::{ExposeSecret as _, SecretString};

/// A body of a request: the first byte chooses which.
pub fn request(data: &[u8]) {
    crate::http::body(data);
}

/// Variables (`NAME=value` lines up to a NUL) and the text of a `pgdibs.toml`.
pub fn configuration(data: &[u8]) {
    crate::config::configuration(data);
}

/// Four texts, separated by line feeds: user, password, database, and a URL or a host. `libpq_variables` is the client's reader of URLs.
pub fn urls(data: &[u8], libpq_variables: impl Fn(&str) -> Vec<(&'static str, String)>) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.splitn(4, '\n');
    let mut next = || parts.next().unwrap_or_default();
    let (user, password, database, other) = (next(), next(), next(), next());
    // Parsers of URLs fold `.` and `..` in a path, however they are written. No database of pgdibs has such a name.
    if user.is_empty() || password.is_empty() || matches!(database, "" | "." | "..") {
        return;
    }
    crate::config::masks(user, password);
    crate::http::written_urls(user, password, database, other, |url, host| {
        let variables = libpq_variables(url);
        let read = |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value);
        let found = [read("PGHOST"), read("PGUSER"), read("PGPASSWORD"), read("PGDATABASE")];
        assert_eq!(found, [host, user, password, database], "{url:?}");
    });
    if let Ok(address) = ServerAddress::parse(&SecretString::from(other)) {
        // Whatever was read, what is written from it is read as what went in.
        let (host, port) = address.host_and_port();
        let written = address.url_for(user, &SecretString::from(password), database);
        let again = ServerAddress::parse(&written).unwrap_or_else(|error| panic!("{error}: {written:?}"));
        if host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte)) {
            assert_eq!(again.host_and_port(), (host, port));
        }
        let variables = again.libpq_variables(database);
        let read = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map_or("", |(_, value)| value.expose_secret()).to_owned()
        };
        assert_eq!([read("PGUSER"), read("PGPASSWORD")], [user, password]);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    /// A fuzz target and the directory of its corpus.
    type Target = (&'static str, fn(&[u8]));

    fn urls(data: &[u8]) {
        super::urls(data, |url| pgdibs::connection_url::libpq_variables(url).unwrap());
    }

    const TARGETS: [Target; 3] = [("request", super::request), ("configuration", super::configuration), ("urls", urls)];

    /// Regression: a server by its IPv6 address was handed out as `[[::1]]` (found by first seed of a fuzz corpus).
    ///
    /// Regression: a host in a URL's parameter went into URLs unescaped (found by libFuzzer).
    ///
    /// Regression: a refusal repeated a name of 60 kilobytes, control characters and all (found by writing the fuzz target).
    #[test]
    fn corpora_cause_no_panic() {
        for (name, target) in TARGETS {
            let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
            let mut replayed = 0;
            for entry in
                std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            {
                let path = entry.unwrap().path();
                println!("{}", path.display());
                target(&std::fs::read(&path).unwrap());
                replayed += 1;
            }
            assert!(replayed >= 20, "{name}: {replayed} inputs");
        }
    }
}
