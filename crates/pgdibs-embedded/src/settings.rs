//! The server's settings and access rules: no durability, a password for every role, the superuser from loopback only.

use std::net::IpAddr;
use std::path::Path;

use super::layout::Layout;
use super::place;

/// Included by `postgresql.conf`, rewritten at each start.
pub(super) const FILE: &str = "pgdibs.conf";

/// Every role logs in with SCRAM, over the socket or from loopback; other addresses match no rule.
const HOST_BASED_AUTHENTICATION: &str = "\
# Written by pgdibs at each start.
local all all              scram-sha-256
host  all all 127.0.0.1/32 scram-sha-256
";

/// The rules that follow when the server listens on more than loopback: every role but the superuser, which only the daemon uses.
const FROM_OTHER_ADDRESSES: &str = "\
host  all postgres all     reject
host  all all      all     scram-sha-256
";

/// The access rules of a server that listens on `listen`.
pub(super) fn access_rules(listen: Option<IpAddr>) -> String {
    match listen {
        Some(address) if !address.is_loopback() => format!("{HOST_BASED_AUTHENTICATION}{FROM_OTHER_ADDRESSES}"),
        _ => HOST_BASED_AUTHENTICATION.to_owned(),
    }
}

/// The addresses to listen on. 127.0.0.1 is always among them: leases of this machine use it.
fn listen_addresses(listen: Option<IpAddr>) -> String {
    match listen {
        Some(IpAddr::V4(address)) if address.is_unspecified() => address.to_string(),
        Some(IpAddr::V6(address)) if address.is_unspecified() => "*".to_owned(),
        Some(address) if address != IpAddr::V4(std::net::Ipv4Addr::LOCALHOST) => format!("127.0.0.1,{address}"),
        _ => "127.0.0.1".to_owned(),
    }
}

/// The settings file, with the reasons for its readers.
pub(super) fn text(layout: &Layout, listen: Option<IpAddr>, port: u16, max_connections: u32) -> String {
    let addresses = listen_addresses(listen);
    let sockets = quoted_directory(&layout.socket_dir());
    let max_wal_mib = max_wal_mib(place::free_bytes(layout.data_dir()));
    format!(
        "\
# Written by pgdibs at each start. This server holds test data only.
listen_addresses = '{addresses}'
port = {port}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
password_encryption = 'scram-sha-256'

max_connections = {max_connections}
# For the daemon, a superuser, when tests have taken every other connection.
superuser_reserved_connections = 10
# DROP SCHEMA ... CASCADE and large TRUNCATEs lock each object.
max_locks_per_transaction = 256
# DROP DATABASE and each checkpoint scan all of it.
shared_buffers = '128MB'

# pgdibs builds again what a crash of the machine loses.
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = '{max_wal_mib}MB'
checkpoint_timeout = '1h'
# A prepared transaction that a test leaves would block the drop of its database.
max_prepared_transactions = 0

# Cloning and renaming leave dead rows in the shared catalogs. Rarely, because a worker in a database
# delays its swap.
autovacuum = on
autovacuum_naptime = '5min'
autovacuum_vacuum_cost_delay = 0
# Compiling costs more than test queries take.
jit = off

# Tests report their own errors, and the log must not fill memory.
log_min_messages = log
log_checkpoints = off
log_line_prefix = '%m [%p] %d '
logging_collector = off
log_destination = 'stderr'
"
    )
}

/// At most a quarter of the free space.
fn max_wal_mib(free_bytes: Option<u64>) -> u64 {
    free_bytes.map_or(1024, |free| (free >> 20) / 4).clamp(256, 4096)
}

/// Quotes one entry of a list of directories: `"` is doubled for the list, `'` and `\` for the setting.
fn quoted_directory(dir: &Path) -> String {
    let entry = format!("\"{}\"", dir.display().to_string().replace('"', "\"\""));
    entry.replace('\\', "\\\\").replace('\'', "''")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_wal_is_quarter_of_free_space_within_bounds() {
        assert_eq!(max_wal_mib(Some(2 << 30)), 512);
        assert_eq!(max_wal_mib(Some(1 << 20)), 256);
        assert_eq!(max_wal_mib(Some(1 << 40)), 4096);
        assert_eq!(max_wal_mib(None), 1024);
    }

    #[test]
    fn listen_addresses_always_include_loopback() {
        let addresses = |text: &str| listen_addresses(Some(text.parse().unwrap()));
        assert_eq!(listen_addresses(None), "127.0.0.1");
        assert_eq!(addresses("127.0.0.1"), "127.0.0.1");
        assert_eq!(addresses("::1"), "127.0.0.1,::1");
        assert_eq!(addresses("10.1.2.3"), "127.0.0.1,10.1.2.3");
        assert_eq!(addresses("0.0.0.0"), "0.0.0.0");
        assert_eq!(addresses("::"), "*");
    }

    #[test]
    fn access_rules_reject_superuser_beyond_loopback() {
        assert_eq!(access_rules(None), HOST_BASED_AUTHENTICATION);
        assert_eq!(access_rules(Some("127.0.0.2".parse().unwrap())), HOST_BASED_AUTHENTICATION);
        let open = access_rules(Some("0.0.0.0".parse().unwrap()));
        let rules: Vec<Vec<&str>> = open.lines().map(|line| line.split_whitespace().collect()).collect();
        // Postgres applies the first rule that matches.
        assert_eq!(
            rules[2..],
            [
                vec!["host", "all", "all", "127.0.0.1/32", "scram-sha-256"],
                vec!["host", "all", "postgres", "all", "reject"],
                vec!["host", "all", "all", "all", "scram-sha-256"],
            ]
        );
    }

    #[test]
    fn quoted_directory_escapes_quotes_and_commas() {
        assert_eq!(quoted_directory(Path::new("/a, b/it's \"x\"")), "\"/a, b/it''s \"\"x\"\"\"");
    }
}
