//! Processes by their pid and start time, so that a pid that was given to another process is not mistaken.

use std::fs;
use std::io;

use nix::sys::signal::Signal;
use rustix::process::{getppid, set_parent_process_death_signal};

/// What `/proc/PID/stat` says of a process (`proc(5)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// When it started, in clock ticks since the boot (field 22).
    pub start: u64,
    /// Whether it has ended and waits for its parent (state Z or X).
    pub dead: bool,
}

/// Looks a process up; `None` if there is none with this pid.
#[must_use]
pub fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name, in parentheses that it may contain itself.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some(Stat { start, dead: matches!(state, "Z" | "X") })
}

/// A signal by its name, with or without `SIG`, or by its number.
///
/// # Errors
/// One sentence, for what is neither.
pub fn parse_signal(text: &str) -> anyhow::Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        anyhow::ensure!((0..=64).contains(&number), "unknown signal {text:?}; expected 0 to 64");
        return Ok(number);
    }
    let upper = text.to_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if let Some(number) = realtime(&name) {
        return Ok(number);
    }
    let signal: Signal = name.parse().map_err(|_| {
        anyhow::anyhow!("unknown signal {text:?}; expected a name such as SIGTERM or a number")
    })?;
    Ok(signal as i32)
}

/// `SIGRTMIN+3` and its like.
fn realtime(name: &str) -> Option<i32> {
    let (base, offset) = match (name.strip_prefix("SIGRTMIN"), name.strip_prefix("SIGRTMAX")) {
        (Some(offset), _) => (34, offset),
        (_, Some(offset)) => (64, offset),
        _ => return None,
    };
    let offset = if offset.is_empty() { 0 } else { offset.parse::<i32>().ok()? };
    Some(base + offset).filter(|number| (34..=64).contains(number))
}

/// Sends a signal by number.
///
/// # Errors
/// The kernel's; a process that is gone is `ESRCH`.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill(2) with plain integers.
    if unsafe { libc::kill(pid, signal) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has the kernel end this process with its parent, which is expected to be `parent`.
///
/// # Errors
/// If that one has ended already.
pub fn die_with_parent(parent: i32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // Asked after it, so that there is no end between the two.
    anyhow::ensure!(
        getppid().is_some_and(|pid| pid.as_raw_pid() == parent),
        "the process {parent} does not run this command, or no longer"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (text, number) in
            [("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("9", 9), ("0", 0), ("RTMIN+3", 37)]
        {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        assert!(
            parse_signal("SIGNOTHING").unwrap_err().to_string().contains("unknown signal \"SIGNOTHING\"")
        );
        assert!(parse_signal("65").is_err());
    }

    #[test]
    fn this_process_is_alive_and_began_before_now() {
        let stat = stat(std::process::id() as i32).unwrap();
        assert!(!stat.dead && stat.start > 0);
        assert_eq!(super::stat(i32::MAX), None);
    }
}
