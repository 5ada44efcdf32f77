//! What the daemon remembers of databases that tests gave to the owner role of a pool.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct HandedOver {
    /// By oid: the logins of the leases that were live when the daemon first saw the database. One of them created it.
    pub(crate) makers: BTreeMap<i64, BTreeSet<String>>,
    /// The log has said why these stay.
    pub(crate) logged: BTreeSet<i64>,
    /// The log has named these roles, which the lease of a superuser may have made.
    pub(crate) logged_roles: BTreeSet<String>,
}

impl HandedOver {
    /// Whether all leases have ended that may have created a database.
    pub(crate) fn is_left_over(&mut self, oid: i64, live: &BTreeSet<String>) -> bool {
        let makers = self.makers.entry(oid).or_insert_with(|| live.clone());
        makers.retain(|login| live.contains(login));
        makers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn handed_over_database_waits_for_leases_of_its_time_alone() {
        let mut seen = HandedOver::default();
        assert!(!seen.is_left_over(7, &logins(&["one", "two"])));
        assert!(!seen.is_left_over(7, &logins(&["two", "three"])), "the second may have created it");
        assert!(seen.is_left_over(7, &logins(&["three"])), "the third came later");
    }
}
