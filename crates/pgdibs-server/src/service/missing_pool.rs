//! What a caller learns about a pool that is not there: why the configured one was refused, or which name it may have meant.

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;

use super::Service;
use crate::config::suggestion::suggestion;

impl<B: Backend + 'static> Service<B> {
    /// Adds to [`Error::PoolNotFound`] what the caller can do about it; other errors stay.
    pub(super) async fn explain_missing_pool(&self, error: Error) -> Error {
        let Error::PoolNotFound { pool, hint } = &error else { return error };
        if !hint.is_empty() {
            return error;
        }
        let refused = self.refused_pools.why(pool);
        let hint = match refused {
            Some(why) => format!("the daemon's configuration has it, but it could not be made: {why}"),
            None => {
                let pools = self.snapshot().await.map(|snapshot| snapshot.pools).unwrap_or_default();
                match suggestion(pool, pools.iter().map(|pool| pool.name.as_str())) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => return error,
                }
            }
        };
        Error::PoolNotFound { pool: pool.clone(), hint }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use pgdibs_core::lease::LeaseId;
    use pgdibs_core::name::{Fingerprint, PoolName};
    use pgdibs_core::pool::PoolPatch;
    use pgdibs_core::request::Announce;
    use pgdibs_testing::fake::FakeBackend;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::service::acquire::LeaseRequest;
    use crate::service::{NoSources, RefusedPools};

    fn request(pool: &PoolName) -> LeaseRequest {
        LeaseRequest {
            id: LeaseId::now_v7(),
            pool: pool.clone(),
            fingerprint: Some(Fingerprint::parse("v1").unwrap()),
            run: None,
            worker: None,
            alias: "default".to_owned(),
            holder: String::new(),
            ttl_seconds: 60,
            exact_slot: false,
            fresh: false,
        }
    }

    /// Regression: a lease on a pool of the file that the daemon had refused got "there is no pool", and only `/readyz` had the reason; so did
    /// one with a slip in the name (found by a new user).
    #[tokio::test]
    async fn caller_of_missing_pool_learns_reason_or_similar_name() {
        let refused_pools = Arc::new(RefusedPools::default());
        let service = Service::new(
            Arc::new(FakeBackend::new()),
            Arc::default(),
            Arc::new(NoSources),
            BTreeMap::new(),
            10,
            CancellationToken::new(),
            TaskTracker::new(),
        )
        .with_refused_pools(Arc::clone(&refused_pools));
        let [shop, shpo, other] = ["shop_test", "shpo_test", "billing"].map(|name| PoolName::parse(name).unwrap());
        service.backend.put_pool(&shop, &PoolPatch::default()).await.unwrap();
        refused_pools.set(&other, Some("role \"reader\" exists already".to_owned()));
        for (pool, sentence) in [
            (&shpo, "there is no pool \"shpo_test\"; did you mean \"shop_test\"?"),
            (
                &other,
                "there is no pool \"billing\"; the daemon's configuration has it, but it could not be made: role \"reader\" exists already",
            ),
        ] {
            let error = service.acquire(vec![request(pool)], Duration::ZERO, false).await.unwrap_err();
            assert_eq!(error.to_string(), sentence);
            let announce =
                Announce { run: "r".to_owned(), pool: pool.clone(), fingerprint: None, workers: 1, aliases: 1 };
            assert_eq!(service.announce(announce).await.unwrap_err().to_string(), sentence);
        }
        refused_pools.set(&other, None);
        let error = service.acquire(vec![request(&other)], Duration::ZERO, false).await.unwrap_err();
        assert!(error.to_string().contains("make it with"), "{error}");
    }
}
