//! A lease's login, restored before the lease gets a fresh database.
//!
//! After `set role none` a holder acts as its login, which may change its own password and settings, also for a database that it does not
//! have yet. None of that survives a reset.

use pgdibs_core::name::{DatabaseName, RoleName};
use pgdibs_core::pool::LoginSettings;
use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use crate::context::PgBackend;
use crate::ddl::{self, Ddl};
use crate::error::{Result, failed};

#[derive(Clone)]
pub(super) struct Login {
    pub(super) name: RoleName,
    /// Of its original password; without one, an earlier pgdibs created it, and the password stays as it is.
    pub(super) verifier: Option<String>,
    /// The owner role, if it acts as another role than itself.
    pub(super) acts_as: RoleName,
    pub(super) settings: LoginSettings,
}

impl Login {
    /// The statements that undo what its holder changed, before it gets the database with this oid under this name. Settings are compared
    /// first, since there is rarely anything to undo; only a superuser could compare a password.
    pub(super) async fn restore(
        &self,
        backend: &PgBackend,
        connection: &mut PgConnection,
        entering: i64,
        name: &DatabaseName,
    ) -> Result<Ddl> {
        let found: Option<(Vec<String>, bool)> = sqlx::query_as(
            "select coalesce((select s.setconfig from pg_db_role_setting s where s.setrole = r.oid and s.setdatabase = 0), '{}'),
                    exists (select from pg_db_role_setting s where s.setrole = r.oid and s.setdatabase = $2)
             from pg_roles r where r.rolname = $1",
        )
        .bind(self.name.as_str())
        .bind(Oid(u32::try_from(entering).unwrap_or(0)))
        .fetch_optional(connection)
        .await?;
        let (settings, is_set_there) =
            found.ok_or_else(|| failed("the login of the lease was dropped, so the lease can only be released"))?;
        let sets_role = self.settings.sets_role().then_some(&self.acts_as);
        let expected: Vec<String> = sets_role.iter().map(|role| format!("role={role}")).collect();
        let mut restored = Ddl::default();
        if let Some(verifier) = &self.verifier {
            restored = restored.then(ddl::restore_password(&self.name, verifier, backend.facts().rights));
        }
        if settings != expected {
            restored = restored.then(ddl::reset_settings(&self.name, sets_role));
        }
        if is_set_there {
            restored = restored.then(ddl::reset_settings_in(&self.name, name));
        }
        Ok(restored)
    }
}
