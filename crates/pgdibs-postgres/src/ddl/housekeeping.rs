//! ANALYZE and VACUUM, always of relations by name.

use super::text::{Ddl, ident};

/// Relations are given as schema and name. A partitioned table stands for its partitions.
pub fn analyze(relations: &[(String, String)]) -> Ddl {
    on_each("analyze", relations)
}

/// Rewrites relations without their gaps. Only with a list: without one, `vacuum full` locks shared catalogs too, and every new connection to the
/// server waits.
pub fn compact(relations: &[(String, String)]) -> Ddl {
    on_each("vacuum (full, freeze)", relations)
}

/// Freezes relations in place.
pub fn freeze(relations: &[(String, String)]) -> Ddl {
    on_each("vacuum (freeze)", relations)
}

/// Removes the dead rows of clones, swaps and drops from shared catalogs and from pgdibs's catalog. Without truncation, which takes a lock on
/// `pg_database` for which every new connection to the server would wait, and without a wait for the locks of others. With new statistics, so
/// that statements are planned again for as many rows as there are now.
pub fn vacuum_catalogs() -> Ddl {
    Ddl::of(format!("vacuum (analyze, truncate false, skip_locked) {}", VACUUMED.join(", ")))
}

pub const VACUUMED: [&str; 8] = [
    "pg_catalog.pg_database",
    "pg_catalog.pg_authid",
    "pg_catalog.pg_auth_members",
    "pg_catalog.pg_db_role_setting",
    "pg_catalog.pg_shdepend",
    "public.databases",
    "public.leases",
    "public.tickets",
];

fn on_each(command: &str, relations: &[(String, String)]) -> Ddl {
    if relations.is_empty() {
        return Ddl::default();
    }
    let names: Vec<String> =
        relations.iter().map(|(schema, name)| format!("{}.{}", ident(schema), ident(name))).collect();
    Ddl::of(format!("{command} {}", names.join(", ")))
}
