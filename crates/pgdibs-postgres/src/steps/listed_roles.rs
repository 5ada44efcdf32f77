//! The roles that a pool lists: a build's rights over them, which end with it.

use pgdibs_core::name::RoleName;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::roles::make_role;
use super::step_context::StepContext;
use crate::ddl::{self, Ddl};
use crate::error::Result;
use crate::rows::Columns as _;

/// Creates the roles and makes the owner a member of each: every login acts as the owner, which may then give objects to the role. With ADMIN
/// OPTION, since Postgres demands it for `grant one role to another`, which migrations run.
pub(super) async fn give(ctx: &mut StepContext<'_>, roles: &[RoleName], owner: &RoleName) -> Result<()> {
    for role in roles {
        make_role(ctx, role, false).await?;
        ddl::grant_role_to_build(role, owner, ctx.backend.facts().major).run(ctx.connection).await?;
    }
    Ok(())
}

/// A membership that a build gave.
struct Given {
    role: RoleName,
    member: RoleName,
    /// Both are listed by pools. A lease, which also acts as the owner, may have given another one.
    listed: bool,
    inherit: bool,
    set: bool,
}

/// Takes ADMIN OPTION away from the pool's owner when none of its pools builds, so that no lease can make other roles members. What a build
/// granted among the listed roles stays: the daemon grants it first, since from Postgres 16 on the owner's grants end with its right to grant.
pub(super) async fn take_back(connection: &mut PgConnection, owner: &RoleName, major: u32) -> Result<(), sqlx::Error> {
    let roles: Vec<String> = sqlx::query_scalar(
        "select r.rolname::text from pg_auth_members m join pg_roles r on r.oid = m.roleid join pg_roles o on o.oid = m.member
         where o.rolname = $1 and m.admin_option and r.rolname::text in (select name from roles)
           and not exists (select from templates t join pools p on p.name = t.pool
                           where p.owner = $1 and t.state = 'building' and t.oid is not null)",
    )
    .bind(owner.as_str())
    .fetch_all(&mut *connection)
    .await?;
    if roles.is_empty() {
        return Ok(());
    }
    let given = sqlx::query(
        "select r.rolname::text as role, e.rolname::text as member,
                e.rolname::text in (select unnest(p.roles) from pools p where p.owner = $1) as listed,
                coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true) as inherit, coalesce((to_jsonb(m) ->> 'set_option')::bool, true) as set
         from pg_auth_members m join pg_roles r on r.oid = m.roleid join pg_roles e on e.oid = m.member join pg_roles o on o.oid = m.grantor
         where o.rolname = $1 and r.rolname::text = any($2)",
    )
    .bind(owner.as_str())
    .bind(&roles)
    .try_map(|row: PgRow| {
        Ok(Given {
            role: row.role("role")?,
            member: row.role("member")?,
            listed: row.try_get("listed")?,
            inherit: row.try_get("inherit")?,
            set: row.try_get("set")?,
        })
    })
    .fetch_all(&mut *connection)
    .await?;
    // One message, so one transaction.
    let mut all = Ddl::default();
    for Given { role, member, listed, inherit, set } in &given {
        all = match listed {
            true => all.then(ddl::grant_membership(role, member, (*inherit, *set), major)),
            false if major < 16 => all.then(ddl::revoke_membership(role, member)),
            false => all,
        };
    }
    for role in roles.iter().filter_map(|name| RoleName::parse("roles", name).ok()) {
        all = all.then(ddl::revoke_admin_option(&role, owner));
    }
    all.run(connection).await
}
