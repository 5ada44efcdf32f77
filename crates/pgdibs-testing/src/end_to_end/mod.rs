//! Support of the end-to-end tests: directories, daemons, callers, and the stage of the fault tests.

pub mod api;
pub mod callers;
pub mod contents;
pub mod daemon;
pub mod ledger;
pub mod place;
pub mod program;
pub mod proxy;
pub mod readiness;
pub mod renewer;
pub mod stage;

pub use crate::cluster::Cluster;
pub use crate::process::signal;
pub use crate::session::Session;
pub use crate::wait::{DEADLINE, StopOnDrop, block, until};
pub use api::Api;
pub use daemon::Daemon;
pub use place::{Place, pool_name};
pub use program::pgdibs;
pub use proxy::{Link, Proxy};
pub use stage::Stage;
