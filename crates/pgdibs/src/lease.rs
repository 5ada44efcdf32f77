//! A lease as a value: it renews itself, and is released when it is dropped.

use std::time::Duration;

use pgdibs_api::lease as api;
use reqwest::Method;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::acquire::Acquire;
use crate::client::Client;
use crate::error::{ApiError, Error};
use crate::heartbeat::Heartbeat;
use crate::path::segment;

/// What a drop may take; the lease ends with its time to live when the daemon does not answer.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);

/// The right to one database. A task renews it; dropping it releases it.
pub struct Lease {
    client: Client,
    lease: api::Lease,
    path: String,
    heartbeat: JoinHandle<()>,
    over: watch::Receiver<Option<ApiError>>,
    held: bool,
}

impl Client {
    /// Acquires a lease, waiting for a database if need be. Must be called within a tokio runtime, in which the lease is renewed.
    ///
    /// # Errors
    /// The last refusal (`pool_exhausted` when no database became ready in time), or as [`Client::call`].
    pub async fn acquire(&self, request: Acquire) -> Result<Lease, Error> {
        let wait = request.longest_wait();
        let body = |left: f64| Some(request.body(left));
        let response = self.call_waiting(Method::POST, "/v1/leases", body, wait, |_| {}).await?;
        let lease: api::Lease = response.json().map_err(|error| Error::Foreign {
            url: self.url().to_owned(),
            method: Method::POST,
            path: "/v1/leases".to_owned(),
            problem: error.to_string(),
        })?;
        Lease::new(self.clone(), lease)
    }
}

impl Lease {
    fn new(client: Client, lease: api::Lease) -> Result<Self, Error> {
        let path = format!("/v1/leases/{}", segment(&lease.id)?);
        let heartbeat = Heartbeat::of(client.clone(), &lease)?;
        let (sender, over) = watch::channel(None);
        let heartbeat = tokio::spawn(async move {
            let refusal = heartbeat.run(|_| {}).await;
            let _dropped = sender.send(Some(refusal));
        });
        Ok(Self { client, lease, path, heartbeat, over, held: true })
    }

    /// `postgresql://user:password@host:port/database`: a secret.
    #[must_use]
    pub fn url(&self) -> &str {
        self.lease.url().unwrap_or_default()
    }

    /// Everything that the daemon says about the lease.
    #[must_use]
    pub fn info(&self) -> &api::Lease {
        &self.lease
    }

    /// Returns when the lease ended without its holder's doing, such as by `pgdibs release`, with the daemon's reason.
    pub async fn lost(&self) -> ApiError {
        let mut over = self.over.clone();
        // Cloned before the next await: the guard of the watch cannot be sent between threads, and this future can be spawned.
        let refusal = over.wait_for(Option::is_some).await.ok().and_then(|refusal| refusal.clone());
        match refusal {
            Some(refusal) => refusal,
            // The heartbeat was aborted with the lease, and a waiter holds the lease, so this is never reached.
            None => std::future::pending().await,
        }
    }

    /// Puts a fresh clone in the database's place; name, login and URL stay. Sessions of the old one are ended.
    ///
    /// # Errors
    /// `pool_exhausted` when no spare was ready within `wait` (the database is untouched then), or as [`Client::call`].
    pub async fn reset(&mut self, wait: Duration) -> Result<(), Error> {
        let generation = self.lease.generation;
        let body = |left: f64| Some(json!({"wait_seconds": left, "generation": generation}));
        let path = format!("{}/reset", self.path);
        let response = self.client.call_waiting(Method::POST, &path, body, wait, |_| {}).await?;
        self.lease = self.read(&path, &response)?;
        Ok(())
    }

    /// Promises that the database stays for `how_long` after the lease ends, and says where.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn keep(&self, how_long: Duration, reason: &str) -> Result<api::Kept, Error> {
        let path = format!("{}/keep", self.path);
        let body = json!({"seconds": how_long.as_secs(), "reason": reason});
        let response = self.client.call(Method::POST, &path, Some(&body), Duration::ZERO).await?;
        self.read(&path, &response)
    }

    /// Gives the database back and waits for the daemon's answer.
    ///
    /// # Errors
    /// As [`Client::call`]. The lease ends with its time to live then.
    pub async fn release(mut self) -> Result<(), Error> {
        self.held = false;
        self.client.call(Method::DELETE, &self.path, None, Duration::ZERO).await.map(|_| ())
    }

    fn read<T: serde::de::DeserializeOwned>(&self, path: &str, response: &crate::Response) -> Result<T, Error> {
        response.json().map_err(|error| Error::Foreign {
            url: self.client.url().to_owned(),
            method: Method::POST,
            path: path.to_owned(),
            problem: error.to_string(),
        })
    }
}

impl Drop for Lease {
    /// Releases it. The call runs on a thread of its own and is waited for (a millisecond; at most two seconds), because the runtime may
    /// be ending and would drop a task before it has run.
    fn drop(&mut self) {
        self.heartbeat.abort();
        if !self.held {
            return;
        }
        let (client, path) = (self.client.clone(), self.path.clone());
        let release = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                // Connections belong to the runtime that opened them, so this one opens its own.
                let client = Client::builder(client.url()).token(client.token().cloned()).timeout(DROP_TIMEOUT);
                client
                    .reuse_connections(false)
                    .build()
                    .ok()?
                    .call(Method::DELETE, &path, None, Duration::ZERO)
                    .await
                    .ok()
            })
        };
        if let Ok(thread) = std::thread::Builder::new().name("pgdibs-release".to_owned()).spawn(release) {
            let _released = thread.join();
        }
    }
}
