//! The variables of a command of `pgdibs run`.

use secrecy::ExposeSecret;

use crate::args::RunArgs;
use crate::error::CliError;
use crate::inherited::{EXPORTED, Inherited};
use crate::table::{plain, shortened};
use pgdibs::Client;
use pgdibs::api::lease::Lease;
use pgdibs::connection_url::{MISLEADING, SERVICE_FILE, libpq_variables, with_database, with_scheme};

/// The variables that `pgdibs run` always sets.
const ALWAYS_SET: [&str; 8] =
    ["DATABASE_URL", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGDIBS_URL", EXPORTED];

/// DATABASE_URL, PG*, those of further aliases, those of `--env`, PGDIBS_URL, the token when there is one, and the list of all these.
///
/// A URL gets the scheme that `--env` names, else that of the variable's present value (`postgresql+asyncpg`), else the daemon's.
///
/// # Errors
/// The daemon sent a URL that is not one of Postgres.
pub(super) fn variables(
    client: &Client,
    leases: &[Lease],
    args: &RunArgs,
    inherited: &Inherited,
) -> Result<Vec<(String, String)>, CliError> {
    let url_of = |lease: &Lease| lease.url().unwrap_or_default().to_owned();
    let first = leases.first().map(url_of).unwrap_or_default();
    let base = match (args.workers, leases.first()) {
        (Some(_), Some(lease)) => with_database(&first, &lease.pool),
        _ => first.clone(),
    };
    let assigned = |variable: &str, url: &str, scheme: Option<&str>| {
        let scheme = scheme.or_else(|| inherited.driver_scheme(variable));
        (variable.to_owned(), scheme.map_or_else(|| url.to_owned(), |scheme| with_scheme(url, scheme)))
    };
    let mut variables = vec![assigned("DATABASE_URL", &base, None)];
    // PGDATABASE exists, also with --workers: psql and Django connect to it.
    variables.extend(libpq_variables(&first)?.into_iter().map(|(name, value)| (name.to_owned(), value)));
    for (lease, alias) in leases.iter().zip(&args.alias).skip(1) {
        variables.push(assigned(&variable_of(alias), &url_of(lease), None));
    }
    for assignment in &args.env {
        variables.push(assigned(&assignment.variable, &base, assignment.scheme.as_deref()));
    }
    variables.push(("PGDIBS_URL".to_owned(), client.url().to_owned()));
    if let Some(token) = client.token()
        && inherited.get("PGDIBS_TOKEN").is_none()
        && inherited.get("PGDIBS_TOKEN_FILE").is_none()
    {
        variables.push(("PGDIBS_TOKEN".to_owned(), token.expose_secret().to_owned()));
    }
    variables.push((EXPORTED.to_owned(), inherited.exported(variables.iter().map(|(name, _)| name.as_str()))));
    Ok(variables)
}

/// The inherited variables that the command does not get.
pub(super) fn removed(kept: &[String]) -> &'static [&'static str] {
    if kept.iter().any(|name| name == SERVICE_FILE) { &[] } else { &[SERVICE_FILE] }
}

/// Checks `--keep-env`.
///
/// # Errors
/// It names a variable that `pgdibs run` sets, or one with which libpq would ignore the lease.
pub(super) fn check_kept(args: &RunArgs) -> Result<(), CliError> {
    let set: Vec<String> = args
        .alias
        .iter()
        .skip(1)
        .map(|alias| variable_of(alias))
        .chain(args.env.iter().map(|assignment| assignment.variable.clone()))
        .chain(ALWAYS_SET.map(str::to_owned))
        .collect();
    for name in &args.keep_env {
        if set.contains(name) {
            return Err(CliError::usage(format!("--keep-env {name}: pgdibs run sets this variable to its lease"))
                .hint("leave out one of the two; use another variable for another database"));
        }
        if MISLEADING.contains(&name.as_str()) {
            return Err(CliError::usage(format!(
                "--keep-env {name}: with it libpq connects past the lease, so pgdibs run always removes it"
            ))
            .hint("leave it out"));
        }
    }
    Ok(())
}

/// One line with the names, not the values, of inherited variables that lead to other databases; `None` when there are none, or
/// `--keep-env` names them all.
pub(super) fn warning(inherited: &Inherited, set: &[(String, String)], kept: &[String]) -> Option<String> {
    let unset = |name: &&str| set.iter().all(|(other, _)| other != name) && kept.iter().all(|other| other != name);
    let names: Vec<String> =
        inherited.leading_to_postgres().filter(unset).map(|name| plain(&shortened(name, 60))).collect();
    if names.is_empty() {
        return None;
    }
    Some(format!(
        "warning: the command inherits variables that lead to databases it has not leased: {}; --env NAME sets one to the lease, \
         --keep-env NAME leaves it as it is without this warning",
        names.join(", ")
    ))
}

/// The variable of a further alias.
fn variable_of(alias: &str) -> String {
    format!("DATABASE_URL_{}", upper_case(alias))
}

/// An alias as the suffix of a variable's name.
fn upper_case(alias: &str) -> String {
    alias.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use pgdibs_testing::examples::Example;
    use serde_json::json;

    use crate::args::{Cli, Command};

    fn args_of(words: &[&str]) -> RunArgs {
        match Cli::try_parse_from([&["pgdibs", "run"], words, &["--", "true"]].concat()).unwrap().command {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn variables_for(words: &[&str], databases: &[&str], inherited: &[(&str, &str)]) -> Vec<(String, String)> {
        let args = args_of(words);
        let lease = |database: &&str| {
            let url = format!("postgresql://u:w@127.0.0.1:5/{database}");
            serde_json::from_value(Example::Lease.with(&json!({"pool": "p", "url": url}))).unwrap()
        };
        let leases: Vec<Lease> = databases.iter().map(lease).collect();
        let client = Client::builder("http://127.0.0.1:7/").build().unwrap();
        variables(&client, &leases, &args, &Inherited::of(inherited)).unwrap()
    }

    fn value<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
        // The last value counts, as for a process.
        variables.iter().rfind(|(variable, _)| variable == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn workers_get_base_name_as_url() {
        let variables = variables_for(&["--workers", "2", "--env", "B"], &["p_gw0", "p_gw1"], &[]);
        assert_eq!(value(&variables, "DATABASE_URL"), Some("postgresql://u:w@127.0.0.1:5/p"));
        assert_eq!(value(&variables, "B"), Some("postgresql://u:w@127.0.0.1:5/p"));
        assert_eq!(value(&variables, "PGDATABASE"), Some("p_gw0"));
        assert_eq!(value(&variables, "PGDIBS_URL"), Some("http://127.0.0.1:7"));
    }

    #[test]
    fn aliases_and_env_flags_set_further_variables() {
        let words = ["--alias", "default", "--alias", "read-only", "--env", "A=postgresql+asyncpg", "--env", "B"];
        let variables = variables_for(&words, &["p_gw0", "p_gw1"], &[]);
        assert_eq!(value(&variables, "DATABASE_URL_READ_ONLY"), Some("postgresql://u:w@127.0.0.1:5/p_gw1"));
        assert_eq!(value(&variables, "DATABASE_URL_DEFAULT"), None);
        assert_eq!(value(&variables, "A"), Some("postgresql+asyncpg://u:w@127.0.0.1:5/p_gw0"));
        assert_eq!(value(&variables, "B"), value(&variables, "DATABASE_URL"));
        assert_eq!(value(&variables, "PGDATABASE"), Some("p_gw0"));
        let exported = "DATABASE_URL,PGHOST,PGPORT,PGUSER,PGPASSWORD,PGDATABASE,DATABASE_URL_READ_ONLY,A,B,PGDIBS_URL";
        assert_eq!(value(&variables, EXPORTED), Some(exported));
    }

    #[test]
    fn url_keeps_driver_of_variable_without_scheme() {
        let inherited = [
            ("DATABASE_URL", "postgresql+asyncpg://me:secret@dev/shop?ssl=true"),
            ("DATABASE_URL_TWO", "postgis://dev/gis"),
            ("A", "postgresql+psycopg://dev/shop"),
            ("B", "mysql+pymysql://dev/shop"),
        ];
        let words = ["--alias", "one", "--alias", "two", "--env", "A=postgresql+psycopg2", "--env", "B", "--env", "C"];
        let variables = variables_for(&words, &["p_gw0", "p_gw1"], &inherited);
        assert_eq!(value(&variables, "DATABASE_URL"), Some("postgresql+asyncpg://u:w@127.0.0.1:5/p_gw0"));
        assert_eq!(value(&variables, "DATABASE_URL_TWO"), Some("postgis://u:w@127.0.0.1:5/p_gw1"));
        assert_eq!(value(&variables, "A"), Some("postgresql+psycopg2://u:w@127.0.0.1:5/p_gw0"));
        assert_eq!(value(&variables, "B"), Some("postgresql://u:w@127.0.0.1:5/p_gw0"));
        assert_eq!(value(&variables, "C"), Some("postgresql://u:w@127.0.0.1:5/p_gw0"));
    }

    #[test]
    fn exported_keeps_variables_of_outer_run() {
        let inherited = [(EXPORTED, "DATABASE_URL,SHOP_URL"), ("DATABASE_URL", "x"), ("SHOP_URL", "y")];
        let variables = variables_for(&["--env", "A"], &["p_gw0"], &inherited);
        let exported = "DATABASE_URL,SHOP_URL,PGHOST,PGPORT,PGUSER,PGPASSWORD,PGDATABASE,A,PGDIBS_URL";
        assert_eq!(value(&variables, EXPORTED), Some(exported));
    }

    #[test]
    fn warning_lists_names_neither_set_nor_kept() {
        let inherited = Inherited::of(&[
            ("DATABASE_URL", "postgres://dev/shop"),
            ("SHOP_URL", "postgresql+asyncpg://me:secret@dev/shop"),
            ("ANALYTICS_DSN", "host=dev dbname=analytics password=secret"),
            ("KEPT_URL", "postgres://dev/kept"),
            ("CACHE_URL", "redis://dev/0"),
            ("PGDIBS_SERVER_URL", "postgres://dev/postgres"),
        ]);
        let set = |name: &str| (name.to_owned(), String::new());
        let kept = ["KEPT_URL".to_owned(), "NOT_THERE".to_owned()];
        let warned = warning(&inherited, &[set("DATABASE_URL")], &kept).unwrap();
        assert!(warned.contains("it has not leased: ANALYTICS_DSN, SHOP_URL; --env NAME"), "{warned}");
        assert!(!warned.contains("secret") && !warned.contains("dev") && !warned.contains('\n'), "{warned}");
        let all = [set("DATABASE_URL"), set("SHOP_URL"), set("ANALYTICS_DSN")];
        assert_eq!(warning(&inherited, &all, &kept), None);
    }

    #[test]
    fn keep_env_refuses_variables_that_run_sets_or_removes() {
        for (words, expected) in [
            (vec!["--keep-env", "DATABASE_URL"], "--keep-env DATABASE_URL: pgdibs run sets this variable"),
            (vec!["--keep-env", "PGPORT"], "--keep-env PGPORT: pgdibs run sets"),
            (vec!["--env", "A", "--keep-env", "A"], "--keep-env A: pgdibs run sets"),
            (vec!["--alias", "x", "--alias", "y", "--keep-env", "DATABASE_URL_Y"], "--keep-env DATABASE_URL_Y: "),
            (vec!["--keep-env", "PGHOSTADDR"], "--keep-env PGHOSTADDR: with it libpq connects past the lease"),
            (vec!["--keep-env", "PGSERVICE"], "always removes it"),
        ] {
            let message = check_kept(&args_of(&words)).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        check_kept(&args_of(&["--keep-env", "A", "--keep-env", "PGSERVICEFILE"])).unwrap();
        assert!(removed(&["A".to_owned()]).contains(&"PGSERVICEFILE"));
        assert!(removed(&["PGSERVICEFILE".to_owned()]).is_empty());
    }
}
