//! Catches the signals that terminate a program, to pass them on to a command and wait for it.

use nix::sys::signal::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::error::CliError;

/// A signal that this process received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) signal: Signal,
    /// A process sent it to this process alone. Otherwise the terminal sent it (Ctrl-C) to the whole foreground process group, the command
    /// included.
    pub(super) from_process: bool,
}

/// The stream of SIGINT, SIGTERM, SIGHUP and SIGQUIT.
#[derive(Debug)]
pub(super) struct Signals {
    received: UnboundedReceiver<Received>,
    ignored_once: Option<Signal>,
}

impl Signals {
    /// Starts to catch the signals. Those that were ignored when this process started stay ignored (`nohup`, a background job of a
    /// script): with a handler here, the command would not inherit that they are ignored.
    ///
    /// # Errors
    /// The operating system refuses.
    pub(super) fn catch() -> Result<Self, CliError> {
        let ignored = ignored_signals();
        let caught = [SIGINT, SIGTERM, SIGHUP, SIGQUIT].into_iter().filter(|signal| !is_in(ignored, *signal));
        let mut signals = SignalsInfo::<WithOrigin>::new(caught)
            .map_err(|error| CliError::failed(format!("cannot catch signals: {error}")))?;
        let (sender, received) = unbounded_channel();
        std::thread::spawn(move || {
            for origin in signals.forever() {
                let Ok(signal) = Signal::try_from(origin.signal) else { continue };
                let from_process = origin.process.is_some_and(|process| process.pid != 0);
                if sender.send(Received { signal, from_process }).is_err() {
                    return;
                }
            }
        });
        Ok(Self { received, ignored_once: None })
    }

    /// Ignores the next of these signals.
    pub(super) fn ignore_once(&mut self, signal: Signal) {
        self.ignored_once = Some(signal);
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Received {
        loop {
            match self.received.recv().await {
                Some(received) if self.ignored_once == Some(received.signal) => self.ignored_once = None,
                Some(received) => return received,
                // The thread that sends ends only with the process.
                None => return std::future::pending().await,
            }
        }
    }
}

/// The mask of ignored signals; 0 where there is no `/proc`.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn is_in(mask: u64, signal: i32) -> bool {
    u32::try_from(signal - 1).ok().and_then(|bit| mask.checked_shr(bit)).is_some_and(|rest| rest & 1 == 1)
}

/// The exit code that shells report for a program that a signal terminated.
pub(super) fn exit_code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_in_reads_mask_from_lowest_bit() {
        // `nohup` ignores SIGHUP (1).
        assert!(is_in(0x1, SIGHUP));
        assert!(!is_in(0x1, SIGINT));
        assert!(is_in(0x4002, SIGTERM) && is_in(0x4002, SIGINT) && !is_in(0x4002, SIGQUIT));
        assert!(!is_in(u64::MAX, 0) && !is_in(u64::MAX, 65));
    }

    #[test]
    fn exit_code_of_signal_is_that_of_shells() {
        assert_eq!([exit_code_of(2), exit_code_of(9), exit_code_of(15)], [130, 137, 143]);
    }
}
