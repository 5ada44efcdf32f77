//! Rebuilds this crate when a migration of the catalog changes; `sqlx::migrate!` embeds them.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
