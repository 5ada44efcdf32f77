//! A lease's login, set to what it has to be before a fresh database stands behind it.
//!
//! After `set role none` a holder acts as its login, which may change its own password and settings, also for a database that it has
//! yet to get. None of that survives a reset.

use pgdibs_core::error::StepError;
use pgdibs_core::name::{DatabaseName, RoleName};
use pgdibs_core::pool::LoginRights;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use super::outcome::sql;
use super::used::Swapped;
use crate::context::PgBackend;
use crate::ddl::{self, Ddl};

/// What a login has to be.
pub(super) struct Login {
    pub(super) name: RoleName,
    /// Of its password; without one, made by an earlier pgdibs, the password stays as it is.
    pub(super) verifier: Option<String>,
    pub(super) acts_as: RoleName,
    pub(super) may: LoginRights,
}

impl Login {
    /// That of a used database.
    pub(super) fn of(used: &Swapped) -> Self {
        Self { name: used.login.clone(), verifier: used.verifier.clone(), acts_as: used.acts_as.clone(), may: used.may }
    }

    /// The statements that undo what its holder changed, before it gets the database with this oid under this name. Settings
    /// are compared first, for as a rule there is nothing to undo; a password only a superuser could compare.
    pub(super) async fn restore(
        &self,
        backend: &PgBackend,
        connection: &mut PgConnection,
        entering: i64,
        name: &DatabaseName,
    ) -> Result<Ddl, StepError> {
        let facts = &backend.connections.facts;
        let row = sql(sqlx::query(
            "select coalesce((select s.setconfig from pg_db_role_setting s where s.setrole = r.oid and s.setdatabase = 0), '{}') as settings,
                    exists (select from pg_db_role_setting s where s.setrole = r.oid and s.setdatabase = $2) as is_set_there
             from pg_roles r where r.rolname = $1",
        )
        .bind(self.name.as_str())
        .bind(Oid(u32::try_from(entering).unwrap_or(0)))
        .fetch_optional(connection)
        .await)?;
        let row = row.ok_or_else(|| {
            StepError::Failed("the login of the lease was dropped, so the lease can only be released".to_owned())
        })?;
        let settings: Vec<String> = sql(row.try_get("settings"))?;
        let expected = match self.may {
            LoginRights::Plain => vec![format!("role={}", self.acts_as)],
            LoginRights::CreateDb | LoginRights::Superuser => Vec::new(),
        };
        let mut restored = Ddl::default();
        if let Some(verifier) = &self.verifier {
            restored = restored.then(ddl::restore_password(&self.name, verifier, facts.rights));
        }
        if settings != expected {
            restored = restored.then(ddl::reset_settings(&self.name, &self.acts_as, self.may));
        }
        if sql(row.try_get("is_set_there"))? {
            restored = restored.then(ddl::reset_settings_in(&self.name, name));
        }
        Ok(restored)
    }
}
