//! Statements for extensions, and for objects that Postgres gives to superusers alone.

use pgdibs_core::name::RoleName;
use pgdibs_core::pool::Extension;

use super::text::{Ddl, ident};

/// In schema `public` unless it has another one here, since the daemon's search_path is `pg_catalog`. An extension that demands a schema is
/// created there (`cascade` allows that the two differ, and what it needs exists already).
pub fn create_extension(extension: &Extension) -> Ddl {
    let name = ident(&extension.name);
    let place = match &extension.schema {
        Some(schema) => format!("schema {}", ident(schema)),
        None => "schema public cascade".to_owned(),
    };
    Ddl::of(format!("create extension if not exists {name} with {place}"))
}

pub fn create_schema(name: &str, owner: &RoleName) -> Ddl {
    Ddl::of(format!("create schema {} authorization {}", ident(name), ident(owner)))
}

/// What the pool's owner may do with a member of an extension that the daemon owns. `kind` is a letter of `pg_class.relkind`, `n` for a schema
/// or `w` for a foreign-data wrapper.
pub fn grant_member(kind: &str, schema: &str, name: &str, owner: &RoleName) -> Ddl {
    let (schema, name, owner) = (ident(schema), ident(name), ident(owner));
    match kind {
        "S" => Ddl::of(format!("grant usage on sequence {schema}.{name} to {owner}")),
        "r" | "p" => Ddl::of(format!("grant select, insert, update, delete on table {schema}.{name} to {owner}")),
        "n" => Ddl::of(format!("grant usage on schema {name} to {owner}")),
        "w" => Ddl::of(format!("grant usage on foreign data wrapper {name} to {owner}")),
        _ => Ddl::default(),
    }
}

/// Gives an object to the daemon's role, a superuser. `kind` is `event trigger`, `foreign data wrapper` or `subscription`, as
/// `pg_identify_object` says.
pub fn own_as_superuser(kind: &str, name: &str) -> Ddl {
    let kind = ["event trigger", "foreign data wrapper", "subscription"].into_iter().find(|known| *known == kind);
    kind.map_or_else(Ddl::default, |kind| Ddl::of(format!("alter {kind} {} owner to current_user", ident(name))))
}
