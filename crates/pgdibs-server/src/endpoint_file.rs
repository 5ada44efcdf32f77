//! Where the daemon of a data directory listens, for commands that would start another daemon there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A daemon's note in the data directory of its embedded server. It is worth nothing once that daemon has gone, so whoever reads it
/// asks at that address whether it is still the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointFile {
    /// Where it is reached from this machine.
    pub url: String,
    /// Its number, as `/v1/status` tells it.
    pub instance: String,
}

impl EndpointFile {
    /// The note of a daemon that listens there.
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

    /// Leaves the note. Without it others merely do not find this daemon.
    pub fn leave(&self, data_dir: &Path) {
        if let Err(error) = std::fs::write(Self::file(data_dir), format!("{} {}\n", self.url, self.instance)) {
            tracing::debug!(%error, "could not write down where this daemon listens");
        }
    }

    /// Reads the file that a daemon wrote.
    pub fn read(data_dir: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(Self::file(data_dir)).ok()?;
        let (url, instance) = text.trim().split_once(' ')?;
        Some(Self { url: url.to_owned(), instance: instance.to_owned() })
    }

    /// Takes the note away.
    pub fn forget(data_dir: &Path) {
        let _there_was_none = std::fs::remove_file(Self::file(data_dir));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_left_and_names_an_address_that_can_be_called() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(EndpointFile::read(dir.path()), None);
        for (listens, url) in [
            ("127.0.0.1:7432", "http://127.0.0.1:7432"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:81", "http://[::1]:81"),
        ] {
            let note = EndpointFile::of(listens.parse().unwrap(), 7);
            note.leave(dir.path());
            assert_eq!(
                EndpointFile::read(dir.path()),
                Some(EndpointFile { url: url.to_owned(), instance: "7".to_owned() })
            );
        }
        EndpointFile::forget(dir.path());
        assert_eq!(EndpointFile::read(dir.path()), None);
    }
}
