//! The embedded server: finds Postgres, creates a cluster, and starts, supervises, adopts and stops its server.
//!
//! A daemon calls [`start`]. A supervisor (this program again, see [`supervise`]) is Postgres's parent and survives the daemon, which
//! keeps a control connection to it. When that connection closes, or after [`Embedded::keep`], the supervisor keeps the server for
//! [`EmbeddedOptions::linger`], and the next daemon on the data directory adopts it.

pub mod os_user;
mod boot;
mod cluster;
mod control;
mod error;
mod find;
mod layout;
mod lock;
mod options;
mod place;
mod postmaster;
mod progress;
mod server;
mod settings;
mod start;
mod supervisor;

pub use error::EmbeddedError;
pub use find::{Binaries, SearchRoots, find, find_client_program, find_client_programs};
pub use options::{DEFAULT_LINGER, DEFAULT_MAX_CONNECTIONS, EmbeddedOptions};
pub use progress::Progress;
pub use server::{Embedded, Processes, superuser_url};
pub use start::{data_dir, start};
pub use supervisor::{SupervisorArgs, supervise};
