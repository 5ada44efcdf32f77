//! The variables that a command of `pgdibs run` gets.

use secrecy::ExposeSecret;

use crate::cli::args::RunArgs;
use crate::cli::client::Client;
use crate::cli::connection::{libpq_variables, with_database, with_scheme};
use crate::cli::error::CliError;
use crate::cli::wire::Lease;

/// DATABASE_URL, PG*, those of further aliases, those of `--env`, PGDIBS_URL and the token when there is one.
///
/// # Errors
/// When the daemon handed out no URL of Postgres.
pub(super) fn variables(client: &Client, leases: &[Lease], args: &RunArgs) -> Result<Vec<(String, String)>, CliError> {
    let url_of = |lease: &Lease| {
        let url = lease.url.clone().unwrap_or_default();
        if args.workers.is_some() { with_database(&url, &lease.pool) } else { url }
    };
    let url = leases.first().map(url_of).unwrap_or_default();
    let mut variables = vec![("DATABASE_URL".to_owned(), url.clone())];
    variables.extend(libpq_variables(&url)?.into_iter().map(|(name, value)| (name.to_owned(), value)));
    for (lease, alias) in leases.iter().zip(&args.alias).skip(1) {
        variables.push((format!("DATABASE_URL_{}", in_capitals(alias)), url_of(lease)));
    }
    for assignment in &args.env {
        let value = match &assignment.scheme {
            Some(scheme) => with_scheme(&url, scheme),
            None => url.clone(),
        };
        variables.push((assignment.variable.clone(), value));
    }
    variables.push(("PGDIBS_URL".to_owned(), client.url().to_owned()));
    let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if let Some(token) = client.token()
        && !has("PGDIBS_TOKEN")
        && !has("PGDIBS_TOKEN_FILE")
    {
        variables.push(("PGDIBS_TOKEN".to_owned(), token.expose_secret().to_owned()));
    }
    Ok(variables)
}

/// An alias as the end of a variable's name.
fn in_capitals(alias: &str) -> String {
    alias.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn variables_for(words: &[&str], databases: &[&str]) -> Vec<(String, String)> {
        let args = match Cli::try_parse_from([&["pgdibs", "run"], words, &["--", "true"]].concat()).unwrap().command {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        };
        let lease = |database: &&str| Lease {
            pool: "p".to_owned(),
            url: Some(format!("postgresql://u:w@127.0.0.1:5/{database}")),
            ..Lease::default()
        };
        let leases: Vec<Lease> = databases.iter().map(lease).collect();
        variables(&Client::new("http://127.0.0.1:7/", None).unwrap(), &leases, &args).unwrap()
    }

    fn value<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
        variables.iter().find(|(variable, _)| variable == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn workers_get_the_base_name() {
        let variables = variables_for(&["--workers", "2"], &["p_gw0", "p_gw1"]);
        assert_eq!(value(&variables, "DATABASE_URL"), Some("postgresql://u:w@127.0.0.1:5/p"));
        assert_eq!(value(&variables, "PGDATABASE"), Some("p"));
        assert_eq!(value(&variables, "PGDIBS_URL"), Some("http://127.0.0.1:7"));
    }

    #[test]
    fn further_aliases_and_variables_of_their_own() {
        let words = ["--alias", "default", "--alias", "read-only", "--env", "A=postgresql+asyncpg", "--env", "B"];
        let variables = variables_for(&words, &["p_gw0", "p_gw1"]);
        assert_eq!(value(&variables, "DATABASE_URL_READ_ONLY"), Some("postgresql://u:w@127.0.0.1:5/p_gw1"));
        assert_eq!(value(&variables, "DATABASE_URL_DEFAULT"), None);
        assert_eq!(value(&variables, "A"), Some("postgresql+asyncpg://u:w@127.0.0.1:5/p_gw0"));
        assert_eq!(value(&variables, "B"), value(&variables, "DATABASE_URL"));
        assert_eq!(value(&variables, "PGDATABASE"), Some("p_gw0"));
    }
}
