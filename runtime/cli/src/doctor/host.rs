//! The kernel, its walls, memory and disk.

use std::fs;
use std::path::Path;

use bytesize::ByteSize;
use nix::sys::statvfs::{FsFlags, statvfs};
use wisp_config::Config;

use super::Finding;

/// The first kernel with everything that the sandbox uses: `mount_setattr(2)` is the youngest of it.
const KERNEL: (u32, u32) = (5, 12);
/// Less free disk than this and a program of some size cannot be compiled.
const LITTLE: u64 = 256 << 20;
/// The address space that one instance of a service reserves for its memory, with guards, in bits, and room for a few hundred.
const ADDRESS_BITS: u32 = 47;

/// Everything that has nothing to do with containerd.
pub(super) fn look() -> Vec<Finding> {
    let mut findings = vec![kernel(&read("/proc/sys/kernel/osrelease"))];
    findings.extend(apparmor());
    findings.push(overcommit(&read("/proc/sys/vm/overcommit_memory")));
    findings.extend(address_space(&read("/proc/cpuinfo")));
    findings.push(match Config::load() {
        Ok(config) => cache(&config),
        Err(error) => Finding::failed(
            "configuration",
            error.to_string(),
            "mend it: until then no Wasm container starts",
        ),
    });
    findings
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn kernel(release: &str) -> Finding {
    let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    let mut parts = release.splitn(3, '.').map(number);
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= KERNEL => Finding::ok("kernel", release),
        _ => Finding::failed("kernel", release, format!("use Linux {}.{} or later", KERNEL.0, KERNEL.1)),
    }
}

fn apparmor() -> Option<Finding> {
    (read("/sys/module/apparmor/parameters/enabled") == "Y").then(|| {
        let exec =
            Path::new("/proc/self/attr/apparmor/exec").exists() || Path::new("/proc/self/attr/exec").exists();
        if exec {
            Finding::ok("AppArmor", "on; the profile of a container holds its guest too")
        } else {
            Finding::warning(
                "AppArmor",
                "on, and /proc/self/attr has no exec, so that profiles cannot be applied",
                "use a kernel with CONFIG_SECURITY_APPARMOR and proc attributes",
            )
        }
    })
}

fn overcommit(mode: &str) -> Finding {
    match mode {
        "2" => Finding::warning(
            "memory",
            "vm.overcommit_memory is 2: the address space that guests reserve may be refused",
            "set vm.overcommit_memory to 0 or 1",
        ),
        mode => Finding::ok("memory", format!("vm.overcommit_memory is {mode}")),
    }
}

fn address_space(cpuinfo: &str) -> Option<Finding> {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("address sizes")?.split_once(':'))?.1;
    let bits: u32 = line
        .split_once("virtual")
        .and_then(|(before, _)| before.split_whitespace().rev().nth(1)?.parse().ok())?;
    Some(if bits >= ADDRESS_BITS {
        Finding::ok("address space", format!("{bits} bits"))
    } else {
        Finding::warning(
            "address space",
            format!("{bits} bits: services hold fewer instances at a time, and large memories are slower"),
            "nothing, unless pods fail for want of address space; then use another processor",
        )
    })
}

fn cache(config: &Config) -> Finding {
    const CHECK: &str = "cache";
    let path = &config.cache.path;
    // A folder that is not there is made at the first compile; its disk is that of the one above it.
    let Some(there) = path.ancestors().find(|folder| folder.is_dir()) else {
        return Finding::failed(
            CHECK,
            format!("{} cannot be made", path.display()),
            "set cache.path in /etc/wisp/config.toml",
        );
    };
    let disk = match statvfs(there) {
        Ok(disk) => disk,
        Err(error) => {
            return Finding::failed(CHECK, format!("{}: {error}", there.display()), "mend the file system");
        }
    };
    let free = disk.blocks_available() * disk.fragment_size();
    let found = format!("{}, {} free", path.display(), ByteSize::b(free));
    let elsewhere = "set cache.path in /etc/wisp/config.toml to a folder of another disk";
    if disk.flags().contains(FsFlags::ST_RDONLY) {
        Finding::warning(CHECK, format!("{found}, read-only: every start compiles anew"), elsewhere)
    } else if disk.flags().contains(FsFlags::ST_NOEXEC) {
        Finding::warning(CHECK, format!("{found}, noexec: pods of one image share no memory"), elsewhere)
    } else if free < LITTLE {
        Finding::warning(
            CHECK,
            format!("{found}: programs may be compiled at every start"),
            format!("make room, or {elsewhere}"),
        )
    } else {
        Finding::ok(CHECK, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn old_kernels_are_told() {
        assert_eq!(kernel("6.1.0-31-amd64").state, State::Ok);
        assert_eq!(kernel("5.12").state, State::Ok);
        assert_eq!(kernel("5.10.0-21-cloud-amd64").state, State::Failed);
        assert_eq!(kernel("").state, State::Failed);
    }

    #[test]
    fn strict_overcommit_and_small_address_spaces_are_told() {
        assert_eq!(overcommit("2").state, State::Warning);
        assert_eq!(overcommit("0").state, State::Ok);
        let state = |line: &str| address_space(line).map(|finding| finding.state);
        assert_eq!(state("address sizes\t: 46 bits physical, 48 bits virtual"), Some(State::Ok));
        assert_eq!(state("address sizes\t: 36 bits physical, 39 bits virtual"), Some(State::Warning));
        assert_eq!(state("processor: 0"), None);
    }

    #[test]
    fn a_cache_on_a_disk_without_room_is_told() {
        let mut config = Config::default();
        config.cache.path = "/proc/nothing/here".into();
        assert_eq!(cache(&config).state, State::Warning);
        config.cache.path = std::env::temp_dir().join("nothing/here");
        assert!(cache(&config).found.contains("nothing/here, "), "{:?}", cache(&config));
    }
}
