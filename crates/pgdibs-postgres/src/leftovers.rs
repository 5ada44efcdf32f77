//! What tenants leave in a database: undone from inside it, with the rights of whoever left it.

use pgdibs_core::name::RoleName;
use sqlx::Connection as _;

use crate::address::ServerAddress;
use crate::ddl::{self, Ddl};
use crate::sqlstate::{self, Meaning};

/// Rolls back a prepared transaction.
pub(crate) async fn roll_back_prepared(
    address: &ServerAddress,
    database: &str,
    gid: &str,
    owner: &str,
) -> Result<(), sqlx::Error> {
    run_as_owner(address, "pgdibs-watch", database, owner, &ddl::roll_back_prepared(gid)).await
}

/// Runs a statement in a session of its own in the database, and as `owner` when the daemon's role may not: only the maker of such a thing or
/// a superuser may, and the daemon's role is a member of every role that it gave to a holder.
pub(crate) async fn run_as_owner(
    address: &ServerAddress,
    application: &str,
    database: &str,
    owner: &str,
    statement: &Ddl,
) -> Result<(), sqlx::Error> {
    let mut inside = address.connect(database, application).await?;
    let undone = statement.clone().run(&mut inside).await;
    if let Err(error) = &undone
        && sqlstate::meaning(error) == Meaning::Forbidden
        && let Ok(owner) = RoleName::parse("owner", owner)
    {
        ddl::act_as(&owner).run(&mut inside).await?;
        statement.clone().run(&mut inside).await?;
    } else {
        undone?;
    }
    inside.close().await
}
