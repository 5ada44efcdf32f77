//! The conformance suite: the contract of every [`Backend`], checked in the same way on the fake and on Postgres.
//!
//! Each check is an async function of a [`Suite`]; [`for_each_conformance_check`](crate::for_each_conformance_check) lists
//! them, so that a test binary gets one test per check. A check needs the catalog for itself, because it executes every planned
//! step. It creates a pool with the given name and deletes it. Checks of elapsed time are in the tests of the fake backend.

pub mod choice;
pub mod idle;
pub mod keeps;
pub mod leases;
pub mod pools;
pub mod reports;
pub mod resets;
mod server;
mod suite;
pub mod templates;
pub mod placement;
pub mod waiting;

pub use server::ConformanceServer;
pub use suite::Suite;

/// Calls a macro once per check with its module and name:
///
/// ```text
/// macro_rules! check {
///     ($module:ident, $name:ident) => {
///         #[test]
///         fn $name() { run(|suite| pgdibs_testing::conformance::$module::$name(suite)) }
///     };
/// }
/// pgdibs_testing::for_each_conformance_check!(check);
/// ```
#[macro_export]
macro_rules! for_each_conformance_check {
    ($run:ident) => {
        $run!(pools, put_pool_creates_once_then_changes_settings);
        $run!(pools, requests_for_an_unknown_pool_report_its_name);
        $run!(pools, put_pool_rejects_settings_out_of_range_unchanged);
        $run!(pools, put_pool_rejects_names_of_foreign_databases);
        $run!(pools, lowered_max_retires_ready_databases_at_once);
        $run!(pools, drop_pool_in_use_requires_force);
        $run!(pools, drop_pool_leaves_no_rows_databases_or_logins);
        $run!(pools, pool_owner_role_is_separate_and_dropped_with_pool);
        $run!(pools, foreign_database_with_slot_name_is_left_alone);
        $run!(templates, template_is_built_sealed_and_found_again);
        $run!(templates, put_template_reports_the_current_builder);
        $run!(templates, abandoned_build_lets_the_next_caller_build);
        $run!(templates, stale_build_token_is_rejected);
        $run!(templates, repeated_seal_returns_the_ready_template);
        $run!(templates, drop_template_in_use_is_rejected);
        $run!(templates, dropped_template_can_be_built_again);
        $run!(templates, template_dropped_externally_is_retired);
        $run!(reports, inputs_are_compared_with_template_built_before);
        $run!(reports, report_is_kept_for_each_pool_of_the_run);
        $run!(reports, report_of_run_without_pool_is_rejected);
        $run!(reports, pool_keeps_the_last_reports);
        $run!(leases, acquire_returns_clean_database_under_stable_name);
        $run!(leases, acquire_prefers_the_slot_of_the_worker);
        $run!(leases, acquire_with_same_key_returns_same_lease);
        $run!(leases, acquire_with_same_key_other_fingerprint_conflicts);
        $run!(leases, acquire_without_run_grants_a_new_lease);
        $run!(leases, acquire_rejects_an_unknown_template);
        $run!(leases, acquire_matches_fingerprint);
        $run!(choice, choice_follows_last_put_or_seal);
        $run!(choice, choice_keeps_the_template_of_the_run);
        $run!(choice, choice_is_ambiguous_beside_another_template_in_use);
        $run!(leases, acquire_skips_database_with_foreign_session);
        $run!(leases, acquire_skips_database_dropped_externally);
        $run!(leases, released_slot_gets_clean_database_and_new_login);
        $run!(leases, login_connects_only_to_its_own_database);
        $run!(leases, repeated_release_changes_nothing);
        $run!(leases, renew_counts_and_rejects_an_ended_lease);
        $run!(leases, expire_skips_lease_renewed_after_the_plan);
        $run!(leases, lease_of_database_dropped_externally_is_revoked);
        $run!(leases, end_run_releases_its_leases);
        $run!(waiting, acquire_waits_when_no_database_is_free);
        $run!(waiting, ticket_for_a_build_is_served_after_seal);
        $run!(waiting, tickets_are_served_in_order);
        $run!(waiting, acquire_without_ticket_waits_behind_tickets);
        $run!(waiting, dropped_ticket_delays_no_other_request);
        $run!(waiting, batch_is_granted_whole_or_not_at_all);
        $run!(waiting, batch_returns_held_leases_and_grants_the_rest);
        $run!(waiting, request_above_max_is_rejected_at_once);
        $run!(waiting, announced_run_warms_the_pool);
        $run!(waiting, ticket_for_old_template_evicts_an_idle_database);
        $run!(placement, ready_databases_move_to_lowest_slots_after_a_burst);
        $run!(placement, announced_run_gets_slots_of_another_template);
        $run!(placement, move_of_leased_database_is_stale);
        $run!(resets, reset_swaps_database_and_keeps_name_and_login);
        $run!(resets, reset_of_a_generation_happens_once);
        $run!(resets, reset_without_spare_waits_with_database_unchanged);
        $run!(resets, reset_skips_spare_with_foreign_session);
        $run!(resets, reset_reserves_again_after_spare_is_dropped_externally);
        $run!(resets, release_during_reset_frees_the_spare);
        $run!(resets, release_after_reset_drops_both_logins);
        $run!(keeps, kept_database_survives_release);
        $run!(keeps, kept_database_survives_reset);
        $run!(keeps, drop_kept_deletes_database_and_login);
        $run!(keeps, keep_rejects_an_ended_or_unknown_lease);
    };
}
