//! Roles that the lease of a superuser made. Postgres does not record who made a role.
//!
//! A role that is newer than the login, and that a membership connects with it (either is a member of the other, or the login granted a
//! membership of the role), counts as made by it: the daemon drops it with the login, and the databases that it owns. Other newer roles may have
//! another maker: the log names them, once. Roles that a build made stay, since its template needs them.

use pgdibs_core::name::RoleName;

use super::sessions::end_sessions_of;
use super::step_context::StepContext;
use crate::ddl;
use crate::error::Result;
use crate::sqlstate::{self, ErrorClass};

/// Drops the roles that are connected with these logins, which have no session any more. Their databases go to their login, whose own are
/// dropped next.
pub(super) async fn drop_connected(ctx: &mut StepContext<'_>, logins: &[RoleName]) -> Result<()> {
    let names: Vec<&str> = logins.iter().map(RoleName::as_str).collect();
    // Oids are assigned in ascending order, and begin again after 2^32.
    let newer: Vec<(String, String, bool)> = sqlx::query_as(
        "select distinct on (r.oid) l.rolname::text, r.rolname::text,
                exists (select from pg_auth_members m where r.oid in (m.roleid, m.member) and l.oid in (m.roleid, m.member, m.grantor))
                  as connected
         from pg_roles l join pg_roles r on (r.oid::int8 - l.oid::int8 + 4294967296) % 4294967296 < 2147483648
         where l.rolname = any($1::name[]) and l.rolsuper
           and not exists (select from templates t where l.rolname = 'pgdibs_l_' || t.id) and r.rolname !~ '^(pg_|pgdibs_)' and r.rolname <> current_user
           and r.rolname::text not in (select name from roles) and r.rolname::text not in (select owner from pools)
         order by r.oid, connected desc",
    )
    .bind(names)
    .fetch_all(&mut *ctx.connection)
    .await?;
    let mut unknown = Vec::new();
    for (login, name, connected) in newer {
        let (Ok(login), Ok(role)) = (RoleName::parse("login", &login), RoleName::parse("role", &name)) else {
            continue;
        };
        if connected {
            drop_role(ctx, &role, &login).await?;
        } else if ctx.backend.handed_over.lock().logged_roles.insert(name.clone()) {
            unknown.push(name);
        }
    }
    if !unknown.is_empty() {
        let roles = unknown.join(", ");
        tracing::warn!(
            roles,
            "leave roles: they are newer than the login of a superuser's lease, which may have made them, and are not connected with it; \
             drop them if nothing else needs them"
        );
    }
    Ok(())
}

async fn drop_role(ctx: &mut StepContext<'_>, role: &RoleName, login: &RoleName) -> Result<()> {
    let closed = ddl::bound_statements().then(ddl::close_login(role));
    let give = ddl::bound_statements().then(ddl::give_all_owned(role, login));
    let dropped = ddl::bound_statements().then(ddl::drop_role(role));
    let mut failure = closed.run(ctx.connection).await.err();
    end_sessions_of(ctx.connection, &[role.as_str()]).await?;
    for statements in [give, dropped] {
        if failure.is_none() {
            failure = statements.run(ctx.connection).await.err();
        }
    }
    match failure {
        None => tracing::info!(%role, %login, "dropped role that a superuser's lease made"),
        Some(error) if sqlstate::class(&error) == ErrorClass::Unavailable => return Err(error.into()),
        Some(error) => {
            let why = sqlstate::sentence(&error);
            tracing::warn!(%role, %login, "cannot drop role that a superuser's lease made; it is closed: {why}");
        }
    }
    Ok(())
}
