//! Where the command's databases come from: leases of a daemon for what runs tests, and no server for everything else.

use std::time::Duration;

use pgdibs::connection_url::{MISLEADING, SERVICE_FILE, with_scheme};
use pgdibs::{Client, Method, segment};
use secrecy::ExposeSecret;
use serde_json::json;
use uuid::Uuid;

use super::events::Options;
use super::runner::Runner;
use crate::client_build::{SEAL_TIMEOUT, template_path};
use crate::context::Context;
use crate::inherited::Inherited;
use crate::leases::default_holder;
use pgdibs::api::template::Build;

/// No server listens there; the user's name says why.
const NOWHERE: &str = "postgresql://pgdibs-diagnose-has-no-database-here:none@127.0.0.1:1/none";
/// The template of a pool that diagnose made: an empty database, which the fixtures of the command fill.
const EMPTY: &str = "empty";
/// More databases are cloned when they are asked for.
const MOST_WARM: usize = 8;
/// How long a process waits for a lease. The first one may build the template.
const LEASE_TIMEOUT_SECONDS: u32 = 120;

/// Lets all runs connect to no server, unless the plugin of pgdibs gives them a lease.
pub(crate) fn set_unavailable(runner: &mut Runner, inherited: &Inherited) {
    let is_other =
        |name: &str| inherited.get(name).is_some() && !inherited.leading_to_postgres().any(|other| other == name);
    let names = inherited.leading_to_postgres().map(str::to_owned);
    let always = ["DATABASE_URL", "TEST_DATABASE_URL"].into_iter().filter(|name| !is_other(name)).map(str::to_owned);
    for name in names.chain(always) {
        let scheme = inherited.driver_scheme(&name).unwrap_or("postgresql");
        runner.set(&name, with_scheme(NOWHERE, scheme));
    }
    for (name, value) in [("PGHOST", "127.0.0.1"), ("PGPORT", "1"), ("PGUSER", "none"), ("PGDATABASE", "none")] {
        runner.set(name, value);
    }
    for name in MISLEADING.into_iter().chain([SERVICE_FILE]) {
        runner.remove(name);
    }
}

/// A daemon and a pool, from which the plugin of pgdibs leases a database for each test process.
#[derive(Debug)]
pub(crate) struct Databases {
    client: Client,
    pool: String,
    /// diagnose made the pool, and drops it.
    is_ours: bool,
}

impl Databases {
    /// Finds the daemon and the pool; the error says why no test can run.
    pub(crate) async fn find(
        context: &Context,
        named: Option<&str>,
        options: &Options,
        most: usize,
    ) -> Result<Self, String> {
        let mut client = context.client().map_err(|error| error.to_string())?;
        // The plugin follows the project's own setting, unless a flag or a variable names another daemon.
        if let (None, Some(url)) = (&context.url, options.url.clone().filter(|url| !url.is_empty())) {
            let builder = Client::builder(url).token(client.token().cloned());
            client = builder.build().map_err(|error| error.to_string())?;
        }
        if client.get("/livez").await.is_err() {
            return Err(format!("no daemon: none answers at {}; start one with `pgdibs serve`", client.url()));
        }
        // Postgres is down, or the token is wrong: each run of tests would wait for its lease.
        if let Err(error) = client.get("/v1/pools").await {
            return Err(format!("the daemon at {} can lease nothing now: {error}", client.url()));
        }
        if !options.pgdibs {
            return Err("pgdibs is not installed where the command runs: `pip install pgdibs` there. Only its pytest plugin keeps tests from \
                        databases that are not leased"
                .to_owned());
        }
        if let Some(pool) = named.map(str::to_owned).or_else(|| options.pool.clone().filter(|pool| !pool.is_empty())) {
            return Ok(Self { client, pool, is_ours: false });
        }
        let pool = format!("diagnose_{}", &Uuid::new_v4().simple().to_string()[..8]);
        let databases = Self { client, pool, is_ours: true };
        match databases.make_pool(most).await {
            Ok(()) => Ok(databases),
            Err(error) => {
                databases.remove().await;
                Err(format!("the daemon gives no pool for it: {error}"))
            }
        }
    }

    /// Makes a pool of empty databases.
    async fn make_pool(&self, most: usize) -> Result<(), String> {
        let (client, text) = (&self.client, |error: pgdibs::Error| error.to_string());
        let body = json!({"warm": most.min(MOST_WARM), "spares": 0, "max": most + 2});
        let path = format!("/v1/pools/{}", segment(&self.pool).map_err(text)?);
        client.call(Method::PUT, &path, Some(&body), Duration::ZERO).await.map_err(text)?;
        let path = template_path(&self.pool, EMPTY).map_err(|error| error.to_string())?;
        let body = json!({"holder": default_holder("pgdibs diagnose")});
        let answer = client.call(Method::PUT, &path, Some(&body), Duration::from_secs(30)).await.map_err(text)?;
        let build = answer.value().ok().and_then(|value| value.get("build").cloned()).unwrap_or_default();
        let build: Build = serde_json::from_value(build).map_err(|error| error.to_string())?;
        let body = json!({"token": build.token});
        client.call(Method::POST, &format!("{path}/seal"), Some(&body), SEAL_TIMEOUT).await.map_err(text)?;
        Ok(())
    }

    /// Drops the pool if diagnose made it.
    pub(crate) async fn remove(&self) {
        let Ok(name) = segment(&self.pool) else { return };
        if self.is_ours {
            let path = format!("/v1/pools/{name}?force=true");
            let dropped = self.client.call(Method::DELETE, &path, None, Duration::from_secs(10)).await;
            if let Err(error) = dropped {
                crate::output::message(&format!("cannot drop the pool {}: {error}", self.pool));
            }
        }
    }

    /// What the plugin of pgdibs needs, for all further runs.
    pub(crate) fn configure(&self, runner: &mut Runner) {
        runner.set("PGDIBS_URL", self.client.url());
        runner.set("PGDIBS_START", "never");
        runner.set("PGDIBS_TIMEOUT", LEASE_TIMEOUT_SECONDS.to_string());
        runner.set("PGDIBS_POOL", &self.pool);
        if let Some(token) = self.client.token() {
            runner.set("PGDIBS_TOKEN", token.expose_secret());
        }
    }

    /// The words that run a command of any kind on a lease.
    pub(crate) fn run_command(&self) -> Vec<String> {
        ["run", "--pool", &self.pool, "--"].map(str::to_owned).to_vec()
    }
}

/// Options of the plugin for runs of tests: the tests reach leased databases alone, whatever the project allows itself.
pub(crate) const STRICT: [&str; 3] = ["--pgdibs=on", "--pgdibs-guard=error", "--pgdibs-keep=never"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nowhere_is_no_server_and_no_secret() {
        assert!(
            NOWHERE.contains("127.0.0.1:1/")
                && with_scheme(NOWHERE, "postgresql+asyncpg").starts_with("postgresql+asyncpg://")
        );
    }
}
