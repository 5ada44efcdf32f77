//! What the doctor takes from the daemon's configuration and from the machine that it runs on.

use std::time::SystemTime;

/// The inputs beside the server.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The daemon makes no clone below this much free space.
    pub disk_floor_bytes: u64,
    /// The cores of this machine.
    pub cores: usize,
    /// The name of this machine, with which the holder of a lease begins that runs here.
    pub host: Option<String>,
    /// The clock of this machine.
    pub clock: fn() -> SystemTime,
}

impl Environment {
    #[must_use]
    pub fn of_this_machine(disk_floor_bytes: u64) -> Self {
        Self {
            disk_floor_bytes,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            host: nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()),
            clock: SystemTime::now,
        }
    }
}
