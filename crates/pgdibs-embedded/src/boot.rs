//! Which boot of the machine this is: what was not flushed before a reboot is lost when fsync is off.

/// A text that differs between any two boots; `None` where the system does not tell, which counts as another boot.
pub(super) fn current() -> Option<String> {
    let told = if cfg!(target_os = "macos") {
        let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", "kern.bootsessionuuid"]).output();
        String::from_utf8(output.ok()?.stdout).ok()?
    } else {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?
    };
    Some(told.trim().to_owned()).filter(|id| !id.is_empty())
}
