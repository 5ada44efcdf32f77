//! The conformance suite on real Postgres, under each kind of rights that the daemon's role may have.

macro_rules! test_with {
    ($rights:ident, $module:ident, $name:ident) => {
        #[test]
        fn $name() {
            crate::support::setting::on_each_server(pgdibs_postgres::rights::Rights::$rights, async |setting| {
                pgdibs_testing::conformance::$module::$name(&setting.suite).await;
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
    pgdibs_testing::for_each_conformance_check!(check);
}

/// `make test-all` runs these, `make test` does not: the statements are the same for a superuser but for few.
mod long {
    mod createdb_and_createrole {
        macro_rules! check {
            ($module:ident, $name:ident) => {
                test_with!(DatabasesAndRoles, $module, $name);
            };
        }
        pgdibs_testing::for_each_conformance_check!(check);
    }
}
