//! The limit of open files of this process, and the number of HTTP connections that it allows.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The maximum of concurrent connections. A hundred runs of eight workers have 800 that wait.
const MAX: u64 = 2000;

/// The reserve for probes.
const RESERVE: u64 = crate::http::RESERVE as u64;

/// Files for everything else: connections to the server, pipes to builds, the listener, the log.
const OTHERS: u64 = 128;

/// Files for all of these.
const NEEDED: u64 = MAX + RESERVE + OTHERS;

/// Raises the limit of this process as far as needed and allowed (the default of a login is often 1024); returns the number of
/// connections that fit.
pub(super) fn connections() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return fitting(NEEDED) };
    let target = NEEDED.min(hard);
    let open = if soft < target && setrlimit(Resource::RLIMIT_NOFILE, target, hard).is_ok() { target } else { soft };
    let fitting = fitting(open);
    if open < NEEDED {
        tracing::warn!(
            "limiting HTTP connections to {fitting} instead of {MAX}: this process may open only {open} files (ulimit -n)"
        );
    }
    fitting
}

/// At least 16, so that a client can read the status.
fn fitting(files: u64) -> usize {
    usize::try_from(files.saturating_sub(RESERVE + OTHERS).clamp(16, MAX)).unwrap_or(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fitting_reserves_files_for_daemon() {
        assert_eq!(fitting(1_000_000), 2000);
        assert_eq!(fitting(2192), 2000);
        assert_eq!(fitting(2191), 1999);
        assert_eq!(fitting(1024), 832);
        assert_eq!(fitting(64), 16);
    }
}
