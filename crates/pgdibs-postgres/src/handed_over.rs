//! What is remembered of databases that tests handed to the owner role of a pool.

use std::collections::{BTreeMap, BTreeSet};

/// What is remembered of databases that belong to the owner role of a pool, by their numbers.
#[derive(Default)]
pub(crate) struct HandedOver {
    /// Logins of the leases that were live when a database was first seen: one of them made it.
    pub(crate) makers: BTreeMap<i64, BTreeSet<String>>,
    /// Of these the log has said why they stay.
    pub(crate) told: BTreeSet<i64>,
}

impl HandedOver {
    /// Whether nothing is left of the leases that may have made a database.
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
        assert!(!seen.is_left_over(7, &logins(&["two", "three"])), "the second may have made it");
        assert!(seen.is_left_over(7, &logins(&["three"])), "the third came later");
    }
}
