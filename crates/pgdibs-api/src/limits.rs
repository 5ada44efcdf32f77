//! Limits and defaults of requests.

use std::time::Duration;

/// Largest body in bytes.
pub const LARGEST_BODY: usize = 64 * 1024;

/// Longest wait that a caller may ask for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Wait of a caller that names none.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// Longest time to live without a renewal, in seconds.
pub const LONGEST_TTL_SECONDS: u64 = 3600;

/// Time to live of a lease whose holder names none, in seconds.
pub const DEFAULT_TTL_SECONDS: u64 = 60;

/// Longest time that a database can be kept, in seconds: a week.
pub const LONGEST_KEEP_SECONDS: u64 = 604_800;

/// Time that a database is kept when the caller names none, in seconds.
pub const DEFAULT_KEEP_SECONDS: u64 = 3600;

/// Most leases of one batch.
pub const LARGEST_BATCH: usize = 100;

/// The address that is handed out unless `via` names another.
pub const DEFAULT_VIA: &str = "default";

/// The alias of a lease that has none.
pub const DEFAULT_ALIAS: &str = "default";
