//! The conformance suite on real Postgres, under each kind of rights that the daemon's role may have.

macro_rules! test_with {
    ($rights:ident, $module:ident, $name:ident) => {
        #[test]
        fn $name() {
            crate::support::setting::on_each_server(pgdibs_postgres::rights::Rights::$rights, async |setting| {
                pgdibs_core::conformance::$module::$name(&setting.suite).await;
            });
        }
    };
}

mod superuser {
    macro_rules! check {
        ($module:ident, $name:ident) => {
            test_with!(Superuser, $module, $name);
        };
    }
    pgdibs_core::for_each_conformance_check!(check);
}

mod createdb_and_createrole {
    macro_rules! check {
        ($module:ident, $name:ident) => {
            test_with!(DatabasesAndRoles, $module, $name);
        };
    }
    pgdibs_core::for_each_conformance_check!(check);
}

/// With CREATEDB alone all leases share one login, so what is promised of a login per database cannot hold. Each check that is
/// left out here asserts exactly that, beside what other checks assert as well; every other check has to pass.
mod createdb_alone {
    macro_rules! check {
        // An old login is the next holder's login as well, and gets in.
        (leases, a_released_slot_comes_back_clean_and_the_old_login_is_dead) => {};
        (resets, a_lease_that_was_reset_leaves_no_login_behind) => {};
        // What the shared login makes belongs to the shared login.
        (pools, a_pool_has_an_owner_role_of_its_own_that_goes_with_it) => {};
        // It opens every database that is open.
        (leases, a_login_opens_its_own_database_only) => {};
        (keeps, a_kept_database_survives_the_release) => {};
        (keeps, a_kept_database_survives_the_reset) => {};
        ($module:ident, $name:ident) => {
            test_with!(DatabasesOnly, $module, $name);
        };
    }
    pgdibs_core::for_each_conformance_check!(check);
}
