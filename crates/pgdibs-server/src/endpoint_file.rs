//! Where the daemon of a data directory listens, for commands that would start another daemon there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The address of a daemon, in a file of its embedded server's data directory. A killed daemon leaves the file behind, so a reader asks the
/// daemon at that address for its instance number and compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointFile {
    /// The daemon's address from this machine.
    pub url: String,
    /// Its instance number, as in `/v1/status`.
    pub instance: String,
}

impl EndpointFile {
    /// The file of a daemon that listens on this address.
    pub fn of(listens: SocketAddr, instance: i32) -> Self {
        let mut address = listens;
        if address.ip().is_unspecified() {
            let ipv6 = address.is_ipv6();
            address.set_ip(if ipv6 {
                std::net::Ipv6Addr::LOCALHOST.into()
            } else {
                std::net::Ipv4Addr::LOCALHOST.into()
            });
        }
        Self { url: format!("http://{address}"), instance: instance.to_string() }
    }

    fn file(data_dir: &Path) -> PathBuf {
        data_dir.join("daemon-url")
    }

    /// Writes the file. Without it, other commands do not find this daemon.
    pub fn write(&self, data_dir: &Path) {
        if let Err(error) = std::fs::write(Self::file(data_dir), format!("{} {}\n", self.url, self.instance)) {
            tracing::debug!(%error, "cannot write the endpoint file");
        }
    }

    /// Reads the file that a daemon wrote.
    pub fn read(data_dir: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(Self::file(data_dir)).ok()?;
        let (url, instance) = text.trim().split_once(' ')?;
        Some(Self { url: url.to_owned(), instance: instance.to_owned() })
    }

    /// Removes the file.
    pub fn remove(data_dir: &Path) {
        let _there_was_none = std::fs::remove_file(Self::file(data_dir));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_file_is_read_with_an_address_that_can_be_called() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(EndpointFile::read(dir.path()), None);
        for (listens, url) in [
            ("127.0.0.1:7432", "http://127.0.0.1:7432"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:81", "http://[::1]:81"),
        ] {
            let file = EndpointFile::of(listens.parse().unwrap(), 7);
            file.write(dir.path());
            assert_eq!(
                EndpointFile::read(dir.path()),
                Some(EndpointFile { url: url.to_owned(), instance: "7".to_owned() })
            );
        }
        EndpointFile::remove(dir.path());
        assert_eq!(EndpointFile::read(dir.path()), None);
    }
}
