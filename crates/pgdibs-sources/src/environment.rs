//! The variables of a build's programs, and the secrets among them.

use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret as _;
use tokio::process::Command;

use super::source::Source;
use super::target::BuildTarget;

/// Leaves out the daemon's variables for connections (`PG*`) and those with secrets (`PGDIBS_*`).
pub(super) fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
}

/// The program inherits the daemon's other variables, and gets those of the source and of the target.
pub(super) fn set(command: &mut Command, source: &Source, target: &BuildTarget) {
    clean(command);
    for (parameter, variable) in PARAMETERS {
        if let Some(value) = parameter_of(target.url.expose_secret(), parameter) {
            command.env(variable, value);
        }
    }
    command.envs(source.env.iter().map(|(name, value)| (name, value.expose_secret())));
    command
        .env("DATABASE_URL", target.url.expose_secret())
        .env("PGHOST", &target.host)
        .env("PGPORT", target.port.to_string())
        .env("PGUSER", &target.user)
        .env("PGPASSWORD", target.password.expose_secret())
        .env("PGDATABASE", &target.database);
}

/// The passwords, that of the build also encoded as in the URL, and the secrets among the source's variables.
pub(super) fn secrets(source: &Source, target: &BuildTarget) -> Vec<String> {
    let plain = target.password.expose_secret().to_owned();
    let url = target.url.expose_secret();
    let login = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(login, _)| login);
    let encoded = login.and_then(|login| login.split_once(':')).map(|(_, password)| password.to_owned());
    let own = source.env.iter().map(|(name, value)| (name, value.expose_secret()));
    let own = own.filter(|(name, value)| is_secret(name, value)).map(|(_, value)| value.to_owned());
    let of_copy = target.copied.iter().flat_map(|copied| &copied.login).filter(|(name, _)| *name == "PGPASSWORD");
    let of_copy = of_copy.map(|(_, value)| value.expose_secret().to_owned());
    [Some(plain), encoded].into_iter().flatten().chain(own).chain(of_copy).collect()
}

/// Whether a variable of a source is a secret: by its name, or because its value is a URL with a login. To mask every variable, such as
/// `DJANGO_SETTINGS_MODULE`, would hide why a build failed.
fn is_secret(name: &str, value: &str) -> bool {
    const WORDS: [&str; 9] = ["AUTH", "CREDENTIAL", "DSN", "KEY", "PASS", "PRIVATE", "SALT", "SECRET", "TOKEN"];
    let name = name.to_ascii_uppercase();
    let login = value.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    // A shorter value may occur in any output by chance.
    value.len() >= 4 && (login || WORDS.iter().any(|word| name.contains(word)))
}

/// URL parameters and the variables from which libpq takes them, for programs that read `PG*` alone, as psql does here.
const PARAMETERS: [(&str, &str); 8] = [
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
];

fn parameter_of(url: &str, parameter: &str) -> Option<String> {
    let (_, parameters) = url.split_once('?')?;
    let pairs = parameters.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(name, _)| *name == parameter)?;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn secrets_are_recognised_by_name_or_login_in_url() {
        for (name, value) in [
            ("KEY", "canary"),
            ("API_KEY", "abcd"),
            ("django_secret", "abcd"),
            ("DB_PASSWORD", "hunter2"),
            ("CACHE_URL", "redis://u:p@h/0"),
        ] {
            assert!(is_secret(name, value), "{name}");
        }
        for (name, value) in [
            ("DJANGO_SETTINGS_MODULE", "myapp.settings"),
            ("PYTHONPATH", "/app/src"),
            ("KEY", "1"),
            ("INDEX_URL", "https://pypi.example/simple"),
        ] {
            assert!(!is_secret(name, value), "{name}");
        }
    }
}
