//! Undoes what tenants leave in a database, from inside it, with the rights of its maker.

use pgdibs_core::name::RoleName;
use sqlx::Connection as _;

use crate::address::ServerAddress;
use crate::ddl::{self, Ddl};
use crate::sqlstate::{self, ErrorClass};

pub(crate) async fn roll_back_prepared(
    address: &ServerAddress,
    database: &str,
    gid: &str,
    owner: &str,
) -> Result<(), sqlx::Error> {
    run_as_owner(address, "pgdibs-watch", database, owner, &ddl::roll_back_prepared(gid)).await
}

/// Runs a statement in a session of its own in the database, and as `owner` when the daemon's role lacks the right: only the maker of such
/// an object or a superuser has it, and the daemon's role is a member of every role that it gave to a holder.
pub(crate) async fn run_as_owner(
    address: &ServerAddress,
    application: &str,
    database: &str,
    owner: &str,
    statement: &Ddl,
) -> Result<(), sqlx::Error> {
    let mut inside = address.connect(database, application).await?;
    ddl::bound_locks().run(&mut inside).await?;
    match (statement.clone().run(&mut inside).await, RoleName::parse("owner", owner)) {
        (Err(error), Ok(owner)) if sqlstate::class(&error) == ErrorClass::Forbidden => {
            // One by one: ROLLBACK PREPARED may not run inside a transaction block.
            ddl::act_as(&owner).run(&mut inside).await?;
            statement.clone().run(&mut inside).await?;
        }
        (undone, _) => undone?,
    }
    inside.close().await
}
