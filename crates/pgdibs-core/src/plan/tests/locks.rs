//! Tests of the check of the lock table.

use super::super::locks::too_few;
use super::example::{Example, example};
use crate::template::TemplateState;

fn locks(mut example: Example, entries: Option<u64>, connections: Option<u32>) -> Vec<String> {
    example.snapshot.limits.lock_entries = entries;
    example.snapshot.limits.slots_by_connections = connections;
    too_few(&example.snapshot).iter().map(ToString::to_string).collect()
}

#[test]
fn too_few_reports_relations_times_databases_above_lock_entries() {
    let example = || example(2, 8, 1).template(1).change_template(1, |t| t.relations = Some(800));
    assert_eq!(
        locks(example(), Some(6399), None),
        [
            "pool app: tests that drop a schema or truncate every table in 8 databases at once need at least 6400 locks (800 relations \
          of template fingerprint 1 × 8), but the server has 6399 (max_locks_per_transaction × (max_connections + \
          max_prepared_transactions)), so they can fail with \"out of shared memory\" (SQLSTATE 53200); raise \
          max_locks_per_transaction to 2 times its value, or lower the pool's max"
        ]
    );
    assert_eq!(locks(example(), Some(6400), None), Vec::<String>::new(), "just enough");
    assert_eq!(locks(example(), None, None), Vec::<String>::new(), "the limit is unknown");
    assert_eq!(locks(example(), Some(6399), Some(7)), Vec::<String>::new(), "max_connections limits the databases");
    assert_eq!(locks(example().dropping(), Some(1), None), Vec::<String>::new());
}

#[test]
fn too_few_reports_each_pool_with_its_largest_ready_template() {
    let example = example(2, 8, 1)
        .template(1)
        .change_template(1, |t| t.relations = Some(100))
        .template(2)
        .change_template(2, |t| t.relations = Some(300))
        .template(3)
        .change_template(3, |t| t.relations = Some(200))
        .template(4)
        .change_template(4, |t| (t.state, t.relations) = (TemplateState::Retiring, Some(900)))
        .building(5)
        .pool("other", 1, 2, 0)
        .template(6)
        .change_template(6, |t| t.relations = Some(399));
    let reports = locks(example, Some(799), None);
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(
        reports[0].contains("(300 relations of template fingerprint 2 × 8)") && reports[0].contains(" 4 times "),
        "{reports:?}"
    );
}
