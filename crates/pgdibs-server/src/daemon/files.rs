//! How many files this process may have open, and how many callers' connections that leaves.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Most connections at once. A hundred runs with eight workers each have 800 that wait.
const MOST: u64 = 2000;

/// The reserve for probes.
const RESERVE: u64 = crate::http::RESERVE as u64;

/// Files that everything else needs: connections to the server, pipes to builds, the listener, the log.
const OTHERS: u64 = 128;

/// Files that are enough for all of these.
const NEEDED: u64 = MOST + RESERVE + OTHERS;

/// Raises this process's limit as far as it may and needs to be (a login's is often 1024), and says how many connections fit.
pub(super) fn connections() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return fitting(NEEDED) };
    let wanted = NEEDED.min(hard);
    let open = if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    let fitting = fitting(open);
    if open < NEEDED {
        tracing::warn!(
            "this process may open {open} files (ulimit -n), so it takes {fitting} connections at once, not {MOST}"
        );
    }
    fitting
}

/// At least a few, or nobody could be told what is wrong.
fn fitting(files: u64) -> usize {
    usize::try_from(files.saturating_sub(RESERVE + OTHERS).clamp(16, MOST)).unwrap_or(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_itself_needs_is_left_to_it() {
        assert_eq!(fitting(1_000_000), 2000);
        assert_eq!(fitting(2192), 2000);
        assert_eq!(fitting(2191), 1999);
        assert_eq!(fitting(1024), 832);
        assert_eq!(fitting(64), 16);
    }
}
