//! The inputs of a template's fingerprint, and how they differ from those of an earlier template.

use std::collections::BTreeMap;

use crate::name::Fingerprint;

/// The inputs by name: a hash of each, in text of any form.
pub type Inputs = BTreeMap<String, String>;

/// How many names each list of [`InputChanges`] has at most.
const NAMED: usize = 20;

/// How the inputs of a template differ from those of an earlier one. If nothing differs, its build was forced or its predecessor dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputChanges {
    /// The earlier template.
    pub since: Fingerprint,
    /// Inputs that both have, with other hashes.
    pub changed: Vec<String>,
    /// Inputs that the earlier one lacks.
    pub added: Vec<String>,
    /// Inputs that only the earlier one has.
    pub removed: Vec<String>,
    /// How many more differ, beyond the first ones of each list.
    pub more: u32,
}

impl InputChanges {
    /// The differences from the inputs of `since` to those of a later template.
    #[must_use]
    pub fn between(since: Fingerprint, earlier: &Inputs, later: &Inputs) -> Self {
        let other = |(name, hash): &(&String, &String)| earlier.get(*name).is_some_and(|before| before != *hash);
        let mut more = 0;
        let mut named = |names: Vec<String>| {
            more += names.len().saturating_sub(NAMED);
            names.into_iter().take(NAMED).collect::<Vec<_>>()
        };
        let changed = named(later.iter().filter(other).map(|(name, _)| name.clone()).collect());
        let added = named(later.keys().filter(|name| !earlier.contains_key(*name)).cloned().collect());
        let removed = named(earlier.keys().filter(|name| !later.contains_key(*name)).cloned().collect());
        Self { since, changed, added, removed, more: u32::try_from(more).unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_name_what_differs_and_count_the_rest() {
        let inputs = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, h)| ((*n).to_owned(), (*h).to_owned())).collect();
        let since = || Fingerprint::parse("v1").unwrap();
        let earlier: Inputs = inputs(&[("1.sql", "a"), ("2.sql", "b"), ("gone.sql", "c")]);
        let later: Inputs = inputs(&[("1.sql", "a"), ("2.sql", "B"), ("3.sql", "d")]);
        let changes = InputChanges::between(since(), &earlier, &later);
        let lists = (&changes.changed[..], &changes.added[..], &changes.removed[..], changes.more);
        assert_eq!(lists, (&["2.sql".to_owned()][..], &["3.sql".to_owned()][..], &["gone.sql".to_owned()][..], 0));
        let many: Inputs = (0..50).map(|number| (format!("{number:02}.sql"), "x".to_owned())).collect();
        let changes = InputChanges::between(since(), &Inputs::new(), &many);
        assert_eq!((changes.added.len(), changes.more, changes.added[19].as_str()), (20, 30, "19.sql"));
    }
}
