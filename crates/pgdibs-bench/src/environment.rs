//! The servers and daemons of a run: starts them when a part needs them, and removes everything at the end.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use pgdibs_embedded::Embedded;
use secrecy::ExposeSecret as _;
use sqlx::postgres::PgConnectOptions;

use crate::api::{Api, POOL};
use crate::args::Options;
use crate::daemon::{BenchDaemon, Serves, purge};
use crate::error::{BenchError, context};
use crate::plain::{self, PlainServer};
use crate::processor::Meter;
use crate::server::{self, Admin};
use crate::template;

/// A daemon and its server.
#[derive(Clone)]
pub(crate) struct Place {
    /// How daemon and plain side reach the server.
    pub(crate) way: &'static str,
    pub(crate) api: Api,
    pub(crate) meter: Meter,
    /// The superuser (of a given server: the role of its URL), by the way of the daemon.
    pub(crate) own: PgConnectOptions,
    /// The same by the way of the leases.
    tests: PgConnectOptions,
}

impl Place {
    /// The pool of 50 tables, and the plain side with the same tables.
    pub(crate) async fn with_plain_side(&self) -> Result<(Api, PlainServer), BenchError> {
        let mut api = self.api.with_pool(POOL);
        template::build(&mut api, template::LARGE).await?;
        let plain = PlainServer::create(self.own.clone(), self.tests.clone()).await;
        Ok((api, context("the databases of the plain side", plain)?))
    }
}

/// Everything that has to be removed.
pub(crate) struct Environment<'a> {
    options: &'a Options,
    directories: Vec<PathBuf>,
    servers: Vec<Embedded>,
    daemons: Vec<BenchDaemon>,
    /// The URL of the given server once it is used.
    given: Option<&'a str>,
    tcp: Option<Place>,
}

impl<'a> Environment<'a> {
    pub(crate) fn new(options: &'a Options) -> Self {
        Self { options, directories: Vec::new(), servers: Vec::new(), daemons: Vec::new(), given: None, tcp: None }
    }

    /// The given server, or a daemon with its embedded server.
    pub(crate) async fn first(&mut self) -> Result<Place, BenchError> {
        if let Some(url) = &self.options.server_url {
            return self.given(url).await;
        }
        let data_dir = self.directory();
        let (api, meter) = self.daemon(Serves::Embedded(&data_dir), Some(&data_dir)).await?;
        let tests = server::superuser(&pgdibs_embedded::superuser_url(&data_dir)?)?;
        let mut admin = context("a connection", Admin::connect(&tests).await)?;
        let socket = context("its socket", admin.socket_directory().await)?;
        context("a disconnect", admin.close().await)?;
        // As the daemon of an embedded server does.
        let own = tests.clone().socket(socket.trim_matches('"'));
        Ok(Place { way: "by socket", api, meter, own, tests })
    }

    /// The second daemon, on a server that it reaches by TCP.
    pub(crate) async fn tcp(&mut self) -> Result<Place, BenchError> {
        if self.tcp.is_none() {
            let data_dir = self.directory();
            let server = server::start(self.options, &data_dir, pgdibs_embedded::DEFAULT_MAX_CONNECTIONS).await?;
            self.tcp = Some(self.on(server, &data_dir).await?);
        }
        self.tcp.clone().ok_or_else(|| BenchError::Daemon("is not there".to_owned()))
    }

    /// The third daemon, on a server with so many connections, and whether that server counts its statements.
    pub(crate) async fn many(&mut self, max_connections: u32) -> Result<(Place, bool), BenchError> {
        let data_dir = self.directory();
        let server = server::start(self.options, &data_dir, max_connections).await?;
        let mut admin = context("a connection", Admin::connect(&server::superuser(&server.url())?).await)?;
        let counts = context("a setting", admin.load_statistics().await)?;
        context("a disconnect", admin.close().await)?;
        // The setting takes effect at a start.
        server.stop().await?;
        let server = server::start(self.options, &data_dir, max_connections).await?;
        Ok((self.on(server, &data_dir).await?, counts))
    }

    /// A daemon on a server of the benchmark's own.
    async fn on(&mut self, server: Embedded, data_dir: &Path) -> Result<Place, BenchError> {
        let url = server.url();
        self.servers.push(server);
        let own = server::superuser(&url)?;
        let (api, meter) = self.daemon(Serves::Given(url.expose_secret()), Some(data_dir)).await?;
        Ok(Place { way: "by TCP", api, meter, tests: own.clone(), own })
    }

    async fn given(&mut self, url: &'a str) -> Result<Place, BenchError> {
        let own = context("its URL", plain::options(url))?;
        let mut admin = context("a connection", Admin::connect(&own).await)?;
        if context("a query", admin.has_catalog().await)? {
            return Err(BenchError::Unusable(
                "pgdibs is in use on this server: it has a database \"pgdibs\", and the benchmark removes everything of pgdibs at its end; \
                 use another server, or run `pgdibs purge --server-url URL` first"
                    .to_owned(),
            ));
        }
        context("a disconnect", admin.close().await)?;
        self.given = Some(url);
        let (api, meter) = self.daemon(Serves::Given(url), None).await?;
        let way = if own.get_socket().is_some() || own.get_host().starts_with('/') { "by socket" } else { "by TCP" };
        Ok(Place { way, api, meter, tests: own.clone(), own })
    }

    /// Starts a daemon and waits until it is ready.
    async fn daemon(&mut self, serves: Serves<'_>, data_dir: Option<&Path>) -> Result<(Api, Meter), BenchError> {
        let daemon = BenchDaemon::start(self.options, serves)?;
        let (api, meter) = (Api::new(daemon.url())?, Meter::new(daemon.pid(), data_dir));
        // Before the wait: a daemon whose start fails or is interrupted has to be stopped as well.
        self.daemons.push(daemon);
        if let Some(daemon) = self.daemons.last_mut() {
            daemon.wait_until_ready(&api).await?;
        }
        Ok((api, meter))
    }

    fn directory(&mut self) -> PathBuf {
        let name = format!("pgdibs-bench-{}-{}", std::process::id(), self.directories.len());
        let directory = server::data_parent().join(name);
        self.directories.push(directory.clone());
        directory
    }

    /// Stops all processes, and removes all data.
    pub(crate) async fn remove(self) -> Result<(), BenchError> {
        for daemon in self.daemons {
            daemon.stop().await;
        }
        let mut result = Ok(());
        for server in self.servers {
            result = result.and(server.stop().await.map_err(BenchError::from));
        }
        if let Some(url) = self.given {
            let own = context("its URL", plain::options(url))?;
            result = result.and(context("the removal of the plain databases", plain::remove(&own).await));
            result = result.and(purge(self.options, url).await);
        }
        for directory in self.directories.iter().filter(|directory| directory.exists()) {
            if let Err(error) = std::fs::remove_dir_all(directory) {
                let _closed = writeln!(std::io::stderr(), "cannot remove {}: {error}", directory.display());
            }
        }
        result
    }
}
