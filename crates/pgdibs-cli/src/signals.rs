//! The signals that end a program, caught so that a command can be told and waited for.

use nix::sys::signal::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::error::CliError;

/// A signal that came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    /// Which.
    pub(super) signal: Signal,
    /// From a process, to us. Otherwise the terminal sent it (Ctrl-C), and to everybody in the foreground: the command has it too.
    pub(super) to_us_alone: bool,
}

/// SIGINT, SIGTERM, SIGHUP and SIGQUIT, from now on.
#[derive(Debug)]
pub(super) struct Signals {
    received: UnboundedReceiver<Received>,
}

impl Signals {
    /// Starts to catch them. Those that we were started to ignore stay ignored (`nohup`, a job of a script): a handler of ours
    /// would make the command we start sensitive to them.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn catch() -> Result<Self, CliError> {
        let ignored = ignored_signals();
        let wanted = [SIGINT, SIGTERM, SIGHUP, SIGQUIT].into_iter().filter(|signal| !is_in(ignored, *signal));
        let mut signals = SignalsInfo::<WithOrigin>::new(wanted)
            .map_err(|error| CliError::failed(format!("cannot catch signals: {error}")))?;
        let (sender, received) = unbounded_channel();
        std::thread::spawn(move || {
            for origin in signals.forever() {
                let Ok(signal) = Signal::try_from(origin.signal) else { continue };
                let to_us_alone = origin.process.is_some_and(|process| process.pid != 0);
                if sender.send(Received { signal, to_us_alone }).is_err() {
                    return;
                }
            }
        });
        Ok(Self { received })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Received {
        match self.received.recv().await {
            Some(received) => received,
            // The catching thread ends only after us.
            None => std::future::pending().await,
        }
    }
}

/// The mask of ignored signals, where the system tells it.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn is_in(mask: u64, signal: i32) -> bool {
    u32::try_from(signal - 1).ok().and_then(|bit| mask.checked_shr(bit)).is_some_and(|rest| rest & 1 == 1)
}

/// The exit code of a program that a signal ended, as shells have it.
pub(super) fn exit_code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read_from_the_lowest_bit() {
        // What `nohup` leaves: SIGHUP (1) alone.
        assert!(is_in(0x1, SIGHUP));
        assert!(!is_in(0x1, SIGINT));
        assert!(is_in(0x4002, SIGTERM) && is_in(0x4002, SIGINT) && !is_in(0x4002, SIGQUIT));
        assert!(!is_in(u64::MAX, 0) && !is_in(u64::MAX, 65));
    }

    #[test]
    fn codes_are_those_of_shells() {
        assert_eq!([exit_code_of(2), exit_code_of(9), exit_code_of(15)], [130, 137, 143]);
    }
}
