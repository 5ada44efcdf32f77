//! A server whose settings give every session another isolation level, and requests whose transactions the server rolls back.

use std::sync::atomic::{AtomicUsize, Ordering};

use pgdibs_core::backend::Backend as _;
use pgdibs_core::error::Error;
use pgdibs_core::lease::End;
use pgdibs_core::request::Acquired;
use pgdibs_postgres::rights::Rights;

use crate::support::at_once;
use crate::support::setting::{Setting, on_each_server_with};

const CALLERS: usize = 8;
const CYCLES: usize = 5;

/// Acquires and releases, as often as `CYCLES` says; returns what was refused.
async fn call(setting: &Setting, working: &AtomicUsize) -> Vec<Error> {
    let suite = &setting.suite;
    let mut refused = Vec::new();
    let mut done = 0;
    while done < CYCLES {
        match suite.backend.acquire(&[suite.acquire_request()], None).await {
            Ok(Acquired::Wait(_)) => {}
            Ok(Acquired::Granted(leases)) => {
                for lease in leases {
                    refused.extend(suite.backend.end_lease(lease.id, End::Released, "released").await.err());
                }
                done += 1;
            }
            Ok(Acquired::Existing(_)) => panic!("a request without a key has no lease"),
            Err(error) => {
                refused.push(error);
                done += 1;
            }
        }
    }
    working.fetch_sub(1, Ordering::Relaxed);
    refused
}

#[test]
fn serializable_server_refuses_no_request() {
    on_each_server_with(&["default_transaction_isolation=serializable"], Rights::Superuser, async |setting| {
        setting.suite.ready_pool(4, 8, 2).await;
        let working = AtomicUsize::new(CALLERS);
        let reconciling = async {
            let mut failures = Vec::new();
            while working.load(Ordering::Relaxed) > 0 {
                failures.extend(setting.idle_with_failures().await);
            }
            failures
        };
        let calling = at_once((0..CALLERS).map(|_| call(setting, &working)));
        let (failures, refused) = tokio::join!(reconciling, calling);
        let refused: Vec<Error> = refused.into_iter().flatten().collect();
        assert!(refused.is_empty() && failures.is_empty(), "{refused:?} {failures:?}");

        // What a concurrent transaction may still roll back, such as a deadlock, runs again.
        let lease = setting.suite.take(setting.suite.acquire_request()).await;
        let refuse = "create sequence refusals; create function refuse() returns trigger language plpgsql as
            $$ begin if nextval('refusals') <= 2 then raise 'made up' using errcode = '40P01'; end if; return new; end $$;
            create trigger refuse before update on leases for each row execute function refuse()";
        setting.catalog(refuse).await;
        setting.suite.release(&lease).await;
        assert_eq!(setting.catalog_text("select last_value from refusals").await, "3");
    });
}
