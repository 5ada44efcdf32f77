//! The conformance suite: what every [`Backend`] promises, checked the same way on the fake and on real Postgres.
//!
//! Each check is an async function of a [`Suite`]; [`for_each_conformance_check`](crate::for_each_conformance_check) lists
//! them, so that a test binary gets one test per check. A check owns the whole catalog while it runs (it carries out every
//! step that is due), makes a pool under the name it was given, and ends with nothing of it left. What needs time to pass
//! is not here but in the fake's own tests.

pub mod idle;
pub mod keeps;
pub mod leases;
pub mod pools;
pub mod resets;
mod server;
mod suite;
pub mod templates;
pub mod waiting;

pub use server::ConformanceServer;
pub use suite::Suite;

/// Calls a macro once per check, with the check's module and name:
///
/// ```text
/// macro_rules! check {
///     ($module:ident, $name:ident) => {
///         #[test]
///         fn $name() { run(|suite| pgdibs_core::conformance::$module::$name(suite)) }
///     };
/// }
/// pgdibs_core::for_each_conformance_check!(check);
/// ```
#[macro_export]
macro_rules! for_each_conformance_check {
    ($run:ident) => {
        $run!(pools, a_pool_is_made_once_and_then_patched);
        $run!(pools, requests_about_an_unknown_pool_name_it);
        $run!(pools, settings_out_of_range_are_refused_and_change_nothing);
        $run!(pools, a_pool_is_refused_while_others_own_its_names);
        $run!(pools, a_pool_in_use_is_dropped_by_force_only);
        $run!(pools, a_dropped_pool_leaves_nothing);
        $run!(pools, a_pool_has_an_owner_role_of_its_own_that_goes_with_it);
        $run!(pools, a_foreign_database_under_a_slot_name_is_left_alone);
        $run!(templates, a_template_is_built_sealed_and_found_again);
        $run!(templates, a_second_caller_is_told_who_builds);
        $run!(templates, an_abandoned_build_makes_the_next_caller_the_builder);
        $run!(templates, a_stale_token_opens_nothing);
        $run!(templates, a_sealed_template_is_sealed_once);
        $run!(templates, a_template_in_use_is_not_dropped);
        $run!(templates, a_dropped_template_can_be_built_again);
        $run!(templates, a_template_that_somebody_dropped_is_retired);
        $run!(leases, a_lease_gets_a_clean_database_under_a_stable_name);
        $run!(leases, a_worker_gets_its_own_slot_and_another_when_that_is_taken);
        $run!(leases, the_same_key_gets_the_same_lease);
        $run!(leases, the_same_key_with_another_fingerprint_is_a_conflict);
        $run!(leases, without_a_run_every_call_is_a_new_lease);
        $run!(leases, an_unknown_template_is_refused);
        $run!(leases, a_request_without_fingerprint_gets_the_newest_template);
        $run!(leases, a_database_that_somebody_looked_into_is_not_granted);
        $run!(leases, a_database_that_somebody_dropped_is_not_granted);
        $run!(leases, a_released_slot_comes_back_clean_and_the_old_login_is_dead);
        $run!(leases, a_login_opens_its_own_database_only);
        $run!(leases, a_lease_is_released_once);
        $run!(leases, a_renewal_counts_and_an_ended_lease_is_not_renewed);
        $run!(leases, a_lease_renewed_after_the_plan_does_not_expire);
        $run!(leases, a_lease_whose_database_was_dropped_is_revoked);
        $run!(leases, the_end_of_a_run_releases_what_it_holds);
        $run!(waiting, a_request_waits_when_nothing_is_free);
        $run!(waiting, a_waiter_for_a_build_is_served_after_the_seal);
        $run!(waiting, waiters_are_served_in_the_order_of_their_tickets);
        $run!(waiting, a_newcomer_does_not_overtake_a_waiter);
        $run!(waiting, a_waiter_that_gives_up_makes_way);
        $run!(waiting, a_batch_gets_all_or_none);
        $run!(waiting, a_batch_of_which_a_part_is_held_gets_that_part_again);
        $run!(waiting, what_never_fits_is_refused_at_once);
        $run!(waiting, an_announced_run_warms_the_pool);
        $run!(waiting, a_waiter_for_an_old_template_gets_the_slot_of_an_idle_one);
        $run!(resets, a_reset_brings_a_clean_database_under_the_same_name_and_login);
        $run!(resets, a_reset_named_by_its_generation_happens_once);
        $run!(resets, a_reset_without_a_spare_waits_and_leaves_the_database_alone);
        $run!(resets, a_spare_that_somebody_looked_into_does_not_come_in);
        $run!(resets, a_reserved_spare_that_somebody_dropped_frees_its_reset);
        $run!(resets, a_release_during_a_reset_frees_the_spare);
        $run!(resets, a_lease_that_was_reset_leaves_no_login_behind);
        $run!(keeps, a_kept_database_survives_the_release);
        $run!(keeps, a_kept_database_survives_the_reset);
        $run!(keeps, a_kept_database_is_given_up_early);
        $run!(keeps, only_a_live_lease_is_kept);
    };
}
