//! Trial logins: finds out once for each pool whether its leases can log in, and again while they cannot.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pgdibs_core::name::PoolName;
use pgdibs_postgres::backend::PgBackend;
use tokio_util::sync::CancellationToken;

use super::status::Status;

/// The interval at which new pools, and those that were refused, are tried.
const INTERVAL: Duration = Duration::from_secs(3);

/// On a given server; the embedded one has a `pg_hba.conf` of pgdibs.
pub(super) async fn run(backend: Arc<PgBackend>, status: Arc<Status>, stopping: CancellationToken) {
    let mut accepted = BTreeSet::new();
    let trying = async {
        loop {
            try_new(&backend, &status, &mut accepted).await;
            tokio::time::sleep(INTERVAL).await;
        }
    };
    stopping.run_until_cancelled(trying).await;
}

async fn try_new(backend: &PgBackend, status: &Status, accepted: &mut BTreeSet<PoolName>) {
    let Ok(pools) = backend.pools().await else { return };
    let pools: BTreeSet<PoolName> = pools.into_iter().filter(|pool| !pool.dropping).map(|pool| pool.name).collect();
    status.keep_refused_logins(|pool| pools.iter().any(|known| known.as_str() == pool));
    accepted.retain(|pool| pools.contains(pool));
    for pool in pools {
        if accepted.contains(&pool) {
            continue;
        }
        match backend.trial_login(&pool).await {
            Ok(refused) => {
                if status.set_refused_login(pool.as_str(), refused.clone()) {
                    match &refused {
                        Some(why) => tracing::error!(%pool, "leases of a pool open nothing: {why}"),
                        None => tracing::info!(%pool, "the server lets the logins of a pool in"),
                    }
                }
                if refused.is_none() {
                    accepted.insert(pool);
                }
            }
            Err(error) => tracing::debug!(%pool, %error, "cannot try to log in"),
        }
    }
}
