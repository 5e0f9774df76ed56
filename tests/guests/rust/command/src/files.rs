//! Files, and those that no guest may reach.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};

use crate::Outcome;

/// The entries of a directory, in order.
pub(crate) fn list(path: &str) -> Outcome {
    let mut names = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    names.iter().for_each(|name| println!("{name}"));
    Ok(())
}

/// The content of a file.
pub(crate) fn cat(path: &str) -> Outcome {
    io::copy(&mut fs::File::open(path)?, &mut io::stdout())?;
    Ok(())
}

/// Writes so many mebibytes into a file.
pub(crate) fn fill(path: &str, mebibytes: usize) -> Outcome {
    let mut file = fs::File::create(path)?;
    let block = vec![1; 1 << 20];
    (0..mebibytes).try_for_each(|_| file.write_all(&block))?;
    println!("wrote {mebibytes} MiB");
    Ok(())
}

/// Where a hostile guest reaches first. `/hostproc` is where a test mounts the host's proc.
const FORBIDDEN: &[&str] = &[
    "/proc/self/mem",
    "/proc/1/mem",
    "/proc/self/exe",
    "/proc/self/environ",
    "/proc/self/root/etc/shadow",
    "/proc/sysrq-trigger",
    "/proc/kcore",
    "/proc/sys/kernel/core_pattern",
    "/sys/kernel/uevent_helper",
    "/sys/fs/cgroup/memory/release_agent",
    "/sys/fs/cgroup/release_agent",
    "/dev/mem",
    "/hostproc/1/mem",
    "/hostproc/1/root/etc/shadow",
    "/hostproc/self/mem",
    "/hostproc/sysrq-trigger",
    "/link-to-proc/self/mem",
    "/../../../../../../proc/self/mem",
];

/// Tries to open every forbidden file for reading and for writing; prints `REACHED` with each that opens.
pub(crate) fn probe() {
    let _ = fs::create_dir("/mnt");
    for (index, path) in FORBIDDEN.iter().enumerate() {
        attempt(path, path);
        // By the back doors too: a hard link to it, and the file itself moved.
        let link = format!("/hard-link-{index}");
        if fs::hard_link(path, &link).is_ok() {
            attempt(&link, path);
        }
    }
    println!("probed {} paths", FORBIDDEN.len());
}

fn attempt(path: &str, what: &str) {
    if let Ok(mut file) = OpenOptions::new().read(true).open(path) {
        let read = file.read(&mut [0; 1]);
        println!("REACHED {what} for reading ({read:?})");
    }
    if let Ok(mut file) = OpenOptions::new().write(true).open(path) {
        let written = file.write(b"");
        println!("REACHED {what} for writing ({written:?})");
    }
}
