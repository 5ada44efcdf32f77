//! The server's settings and who may log in: fast and forgetful, passwords for everyone, loopback only.

use std::path::Path;

use super::layout::Layout;
use super::place;

/// Included by `postgresql.conf`, rewritten at each start.
pub(super) const FILE: &str = "pgdibs.conf";

/// SCRAM for everyone, over the socket and from loopback; nobody else gets as far as a password.
pub(super) const HOST_BASED_AUTHENTICATION: &str = "\
# Written by pgdibs at each start.
local all all              scram-sha-256
host  all all 127.0.0.1/32 scram-sha-256
";

/// The settings file. The reasons stand beside the settings, because people look there.
pub(super) fn text(layout: &Layout, port: u16, max_connections: u32) -> String {
    let sockets = quoted_directory(&layout.socket_dir());
    let max_wal_mib = max_wal_mib(place::free_bytes(layout.data_dir()));
    format!(
        "\
# Written by pgdibs at each start. This server holds test data only.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
password_encryption = 'scram-sha-256'

max_connections = {max_connections}
# The daemon is superuser and must get in when tests have taken every other connection.
superuser_reserved_connections = 10
# DROP SCHEMA ... CASCADE and large TRUNCATEs lock each object.
max_locks_per_transaction = 256
# DROP DATABASE and every checkpoint scan all of it.
shared_buffers = '128MB'

# What is lost in a crash of the machine is built anew.
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = '{max_wal_mib}MB'
checkpoint_timeout = '1h'
# A prepared transaction left behind would hold its database open.
max_prepared_transactions = 0

# On, for the shared catalogs that cloning and renaming fill with dead rows; seldom, because a worker
# in a database delays its swap.
autovacuum = on
autovacuum_naptime = '5min'
autovacuum_vacuum_cost_delay = 0
# Compiling costs more than test queries take.
jit = off

# Errors of tests are the tests' business, and the log must not fill memory.
log_min_messages = log
log_checkpoints = off
log_line_prefix = '%m [%p] %d '
logging_collector = off
log_destination = 'stderr'
"
    )
}

/// At most a quarter of the room, so that WAL alone never fills it.
fn max_wal_mib(free_bytes: Option<u64>) -> u64 {
    free_bytes.map_or(1024, |free| (free >> 20) / 4).clamp(256, 4096)
}

/// One entry of a list of directories inside a quoted setting: `"` doubled for the list, `'` and `\` for the quotes.
fn quoted_directory(dir: &Path) -> String {
    let entry = format!("\"{}\"", dir.display().to_string().replace('"', "\"\""));
    entry.replace('\\', "\\\\").replace('\'', "''")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wal_takes_a_quarter_of_the_room_within_bounds() {
        assert_eq!(max_wal_mib(Some(2 << 30)), 512);
        assert_eq!(max_wal_mib(Some(1 << 20)), 256);
        assert_eq!(max_wal_mib(Some(1 << 40)), 4096);
        assert_eq!(max_wal_mib(None), 1024);
    }

    #[test]
    fn odd_directory_names_stay_one_directory() {
        assert_eq!(quoted_directory(Path::new("/a, b/it's \"x\"")), "\"/a, b/it''s \"\"x\"\"\"");
    }
}
