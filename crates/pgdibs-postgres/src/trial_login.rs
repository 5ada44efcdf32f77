//! A trial login: whether the logins of a pool's leases get past the server's `pg_hba.conf`.
//!
//! The daemon's own role may have a line of its own there. The URL of a lease would then open nothing, although its database is ready.

use std::time::Duration;

use pgdibs_core::error::Error;
use pgdibs_core::name::{DatabaseName, PoolName, RoleName};
use secrecy::ExposeSecret as _;
use sqlx::Connection as _;

use crate::address::open;
use crate::context::{PgBackend, answer_within, blocking};
use crate::ddl;
use crate::error::PgError;
use crate::requests::next_number;
use crate::scram;
use crate::sqlstate::{self, ErrorClass};

/// For the statements, and for a session that the server does not let in.
const TRIAL: Duration = Duration::from_secs(20);

impl PgBackend {
    /// Logs in as a lease of this pool would, from this machine and by the address that leases get. Returns why the server refuses that, with
    /// the line that allows it; `None` if it does not. The login is new and may connect to no database of pgdibs, and is dropped.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn trial_login(&self, pool: &PoolName) -> Result<Option<String>, Error> {
        let refused = self.trial(pool).await?;
        if refused.is_none() || self.within(self.have_logged_in(pool)).await? {
            return Ok(None);
        }
        // The first one may have met a garbage collection, which closes logins without a row.
        self.trial(pool).await
    }

    async fn trial(&self, pool: &PoolName) -> Result<Option<String>, Error> {
        answer_within(TRIAL, self.try_to_log_in(pool)).await.map_err(|error| self.with_address(error.into()))
    }

    /// Whether logins of the pool got in since the server's start, from another machine: a server may let them in from there alone.
    async fn have_logged_in(&self, pool: &PoolName) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(
            "select exists (select from pg_stat_activity a join databases d on d.oid = a.datid::int8
                            where d.pool = $1 and a.usename ~ '^pgdibs_l_[0-9]+$')
                 or exists (select from templates
                            where pool = $1 and built_by is null and built_at > pg_postmaster_start_time())
                 or exists (select from databases
                            where pool = $1 and created_at > pg_postmaster_start_time() and pg_stat_get_db_sessions(oid::oid) > 0)",
        )
        .bind(pool.as_str())
        .fetch_one(&self.catalog())
        .await
    }

    async fn try_to_log_in(&self, pool: &PoolName) -> Result<Option<String>, PgError> {
        let login = RoleName::login(next_number(self).await?);
        let password = scram::random_password();
        let secret = password.clone();
        let verifier = blocking(move || scram::verifier(secret.expose_secret())).await?;
        // Postgres checks pg_hba.conf by the name of the database before it looks for the database, which may not exist yet.
        let database = DatabaseName::slot(pool, 0);
        let options =
            self.connections.address.options.clone().username(login.as_str()).password(password.expose_secret());
        let options = options.database(database.as_str()).application_name("pgdibs-trial");
        let mut connection = self.connections.ddl.acquire().await?;
        // If this fails halfway, garbage collection drops the login.
        ddl::create_trial_login(&login, &verifier).run(&mut connection).await?;
        let entered = open(&options).await;
        match ddl::drop_role(&login).run(&mut connection).await {
            Err(error) if sqlstate::class(&error) != ErrorClass::Missing => return Err(error.into()),
            _ => {}
        }
        match entered {
            Ok(session) => session.close_hard().await?,
            Err(error) if sqlstate::class(&error) == ErrorClass::Refused => {
                let from: Option<String> =
                    sqlx::query_scalar("select host(inet_client_addr())").fetch_one(&mut *connection).await?;
                return Ok(Some(refused(pool, &sqlstate::sentence(&error), from.as_deref())));
            }
            // It does not answer by this address, or answers that it is busy.
            Err(error) if sqlstate::class(&error) == ErrorClass::Unavailable => return Err(error.into()),
            // The server has let it in, and refuses the database.
            Err(_) => {}
        }
        Ok(None)
    }
}

fn refused(pool: &PoolName, why: &str, from: Option<&str>) -> String {
    let line = match from {
        None => "local all all scram-sha-256".to_owned(),
        Some(ip) => format!("host all all {ip}/{} scram-sha-256", if ip.contains(':') { 128 } else { 32 }),
    };
    format!(
        "the logins of its leases (pgdibs_l_<number>, databases {pool}_…) cannot log in from this machine: {why}; \
         put this line into the server's pg_hba.conf, above those that refuse them, and reload it with select pg_reload_conf(): {line}"
    )
}
