//! The id of the machine's current boot: with fsync off, a reboot loses what was not flushed before it.

/// A text that differs between any two boots; `None` where the system has none, which counts as another boot.
pub(super) fn current() -> Option<String> {
    let id = if cfg!(target_os = "macos") {
        let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", "kern.bootsessionuuid"]).output();
        String::from_utf8(output.ok()?.stdout).ok()?
    } else {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?
    };
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}
