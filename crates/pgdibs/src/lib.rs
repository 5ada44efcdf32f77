//! Client of pgdibs: leases a clean Postgres database for a test, keeps it alive, and gives it back.
//!
//! ```no_run
//! # async fn example() -> Result<(), pgdibs::Error> {
//! let client = pgdibs::Client::from_environment()?;
//! let lease = client.acquire(pgdibs::Acquire::new("myapp_test")).await?;
//! println!("{}", lease.url());
//! lease.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A call is tried again exactly when the daemon answers with `Retry-After`, within the wait that the caller allows, and once more when
//! a connection that was used before dies before an answer arrives. Nothing else is tried again. A [`Lease`] renews itself as often as
//! the daemon says, and is released when it is dropped.
//!
//! A daemon that is newer than the client is no problem. An older one may refuse a field or a route: the call goes on without a field
//! that only informs people (`holder`), otherwise its error names both versions.
#![warn(missing_docs)]

mod acquire;
mod client;
pub mod connection_url;
mod error;
mod events;
mod heartbeat;
mod lease;
mod path;
mod response;
mod reuse;
mod skew;

pub use acquire::Acquire;
pub use client::{Client, ClientBuilder, DEFAULT_URL};
pub use error::{ApiError, Error};
pub use events::{EventStream, StreamedEvent};
pub use heartbeat::{Heartbeat, Renewal};
pub use lease::Lease;
pub use path::segment;
pub use pgdibs_api as api;
pub use reqwest::Method;
pub use response::Response;
