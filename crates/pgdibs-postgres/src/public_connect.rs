//! Databases with CONNECT for PUBLIC, to which every role of a server may connect, also the logins of leases.
//!
//! On the embedded server pgdibs revokes that right. Another server belongs to its users: there pgdibs only warns.

use std::str::FromStr as _;

use pgdibs_core::probe::{Probe, ProbeError};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::{ddl, sqlstate};

/// The first connection to an embedded server: it revokes PUBLIC's CONNECT on the databases of `initdb`.
pub struct PgProbe;

impl Probe for PgProbe {
    async fn first_connection(&self, url: &SecretString) -> Result<(), ProbeError> {
        let attempt = async {
            let options = PgConnectOptions::from_str(url.expose_secret())?.ssl_mode(PgSslMode::Disable);
            let mut connection = PgConnection::connect_with(&options.disable_statement_logging()).await?;
            close_databases_of_initdb(&mut connection).await?;
            connection.close().await
        };
        attempt.await.map_err(|error: sqlx::Error| match sqlstate::code(&error).as_deref() {
            Some("28P01") => ProbeError::Password,
            _ => ProbeError::NotYet(error.to_string()),
        })
    }
}

/// Databases named in the warning; a development server may have thousands.
const MOST_NAMED: usize = 50;

/// Revokes PUBLIC's CONNECT on the databases that `initdb` creates, as a superuser. New databases need it again: `create database` copies no
/// privileges of its template.
pub(crate) async fn close_databases_of_initdb(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let open: Vec<String> = sqlx::query_scalar(
        "select datname::text from pg_catalog.pg_database
         where datname in ('postgres', 'template1') and pg_catalog.has_database_privilege('public', oid, 'CONNECT')",
    )
    .fetch_all(&mut *connection)
    .await?;
    for database in open {
        ddl::revoke_public_connect(&database).run(connection).await?;
    }
    Ok(())
}

/// The databases that PUBLIC may connect to, in the order of their names, without those of pgdibs and of its logins.
pub(crate) async fn open_to_public(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select d.datname::text from pg_catalog.pg_database d left join pg_catalog.pg_roles o on o.oid = d.datdba
         where d.datallowconn and d.datname <> 'pgdibs' and pg_catalog.has_database_privilege('public', d.oid, 'CONNECT')
           and coalesce(o.rolname <> 'pgdibs_owner' and o.rolname !~ '^pgdibs_l_[0-9]+$', true)
         order by 1",
    )
    .fetch_all(connection)
    .await
}

/// The warning about these databases, with the statements that close them; `None` when there are none.
pub(crate) fn warning(databases: &[String]) -> Option<String> {
    if databases.is_empty() {
        return None;
    }
    let (named, left_out) = databases.split_at(databases.len().min(MOST_NAMED));
    let mut statements: Vec<String> =
        named.iter().map(|database| format!("{};", ddl::revoke_public_connect(database).as_sql())).collect();
    if !left_out.is_empty() {
        statements.push(format!("and the same for {} more", left_out.len()));
    }
    let count = match databases.len() {
        1 => "a database that is not pgdibs's".to_owned(),
        count => format!("{count} databases that are not pgdibs's"),
    };
    Some(format!(
        "the login of every lease can connect to {count}, because PUBLIC has CONNECT there; to prevent it, run as their owner or as superuser: \
         {} (a role of yours that connects through PUBLIC then needs a GRANT CONNECT)",
        statements.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warning_lists_each_database_with_its_statement() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(warning(&[]), None);
        let one = warning(&names(&["postgres"])).unwrap();
        assert!(
            one.starts_with("the login of every lease can connect to a database that is not pgdibs's, because"),
            "{one}"
        );
        let sentence = warning(&names(&["postgres", "it's \"mine\""])).unwrap();
        let statements = "as superuser: REVOKE CONNECT ON DATABASE \"postgres\" FROM PUBLIC; \
                          REVOKE CONNECT ON DATABASE \"it's \"\"mine\"\"\" FROM PUBLIC; (a role";
        assert!(sentence.contains("to 2 databases") && sentence.contains(statements), "{sentence}");
    }

    #[test]
    fn warning_about_thousands_of_databases_is_bounded() {
        let many: Vec<String> = (0..5000).map(|number| format!("tenant_{number}")).collect();
        let sentence = warning(&many).unwrap();
        assert!(
            sentence.contains("to 5000 databases") && sentence.contains("; and the same for 4950 more ("),
            "{sentence}"
        );
        assert!(sentence.len() < 10_000, "{}", sentence.len());
    }

    #[test]
    fn statement_for_a_name_with_control_characters_stays_on_its_line() {
        let statement = ddl::revoke_public_connect("a\nb\\\"").as_sql().to_owned();
        assert_eq!(statement, r#"REVOKE CONNECT ON DATABASE U&"a\000Ab\\""" FROM PUBLIC"#);
        assert!(!warning(&["a\nb".to_owned()]).unwrap().contains('\n'));
    }
}
