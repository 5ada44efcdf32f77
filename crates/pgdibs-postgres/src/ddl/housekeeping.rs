//! ANALYZE and VACUUM, always of relations by name.

use super::text::{Ddl, ident};

/// The planner's statistics of these relations, each as schema and name, without anything of VACUUM. A partitioned table stands for its
/// partitions.
#[must_use]
pub fn analyze(relations: &[(String, String)]) -> Ddl {
    on_each("analyze", relations)
}

/// Writes these relations, each as schema and name, without their gaps. Only ever with a list: without one, `vacuum full`
/// locks shared catalogs too, and every new connection to the server waits.
#[must_use]
pub fn compact(relations: &[(String, String)]) -> Ddl {
    on_each("vacuum (full, freeze)", relations)
}

/// Freezes these relations, each as schema and name, in place.
#[must_use]
pub fn freeze(relations: &[(String, String)]) -> Ddl {
    on_each("vacuum (freeze)", relations)
}

/// Clears what clones, swaps and drops leave dead in shared catalogs and in ours. Not truncating: that takes a lock on `pg_database`
/// for which every new connection to the server would wait.
#[must_use]
pub fn vacuum_catalogs() -> Ddl {
    Ddl::of(format!("vacuum (truncate false) {}", VACUUMED.join(", ")))
}

/// See [`vacuum_catalogs`].
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
