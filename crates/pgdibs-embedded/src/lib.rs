//! The embedded server: a Postgres of our own that is found, made, started, supervised, adopted and stopped.
//!
//! A daemon calls [`start`]; beside it a supervisor (our own binary, see [`supervise`]) is Postgres's parent and survives
//! the daemon. The daemon holds a line to it as long as it lives. When the line closes without a word, or with
//! [`Leave::Keep`], the supervisor keeps the server for a while; the next daemon on the data directory adopts it.

mod os_user;
mod boot;
mod cluster;
mod control;
mod error;
mod find;
mod layout;
mod lock;
mod look;
mod options;
mod place;
mod postmaster;
mod progress;
mod server;
mod settings;
mod start;
mod supervisor;

pub use error::EmbeddedError;
pub use find::{Binaries, SearchRoots, find};
pub use look::superuser_url;
pub use options::{DEFAULT_LINGER, DEFAULT_MAX_CONNECTIONS, EmbeddedOptions};
pub use progress::Progress;
pub use server::{Embedded, Leave};
pub use start::{data_dir, start};
pub use supervisor::{SupervisorArgs, supervise};
