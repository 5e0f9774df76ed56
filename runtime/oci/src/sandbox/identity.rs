//! Who a process is and what it may do: user, groups, capabilities, limits.

use std::collections::HashSet;
use std::io;

use anyhow::{Context, Result};
use capctl::{Cap, CapSet, CapState, ambient, bounding};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use oci_spec::runtime::{Capability, LinuxCapabilities, PosixRlimitType, Process};

/// What a Wasm guest's process can make use of. A guest reaches files and sockets and nothing else of the kernel, so no
/// other capability of the spec would do anything but serve an attacker who broke out of Wasm.
const USEFUL_TO_WASM: [Cap; 7] = [
    Cap::CHOWN,
    Cap::DAC_OVERRIDE,
    Cap::DAC_READ_SEARCH,
    Cap::FOWNER,
    Cap::FSETID,
    Cap::NET_BIND_SERVICE,
    Cap::NET_RAW,
];

/// What runs in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// A guest, whose capabilities are bounded by what Wasm can make use of.
    Wasm,
    /// A native program, with the spec's capabilities.
    Native,
}

/// Sets the process's limits (`setrlimit(2)`), while it may still raise them.
///
/// # Errors
/// With the limit that cannot be set.
pub fn limit(process: &Process) -> Result<()> {
    for rlimit in process.rlimits().iter().flatten() {
        let value = libc::rlimit { rlim_cur: rlimit.soft(), rlim_max: rlimit.hard() };
        // SAFETY: setrlimit(2) with a valid struct. (musl's and glibc's types of the first argument differ.)
        let done = unsafe { libc::setrlimit(resource(rlimit.typ()) as _, &raw const value) };
        if done < 0 {
            return Err(io::Error::last_os_error()).with_context(|| {
                format!("the limit {} cannot be set to {}:{}", rlimit.typ(), rlimit.soft(), rlimit.hard())
            });
        }
    }
    Ok(())
}

/// Takes away every capability that is not to be had again, while the process may still do so.
///
/// # Errors
/// The kernel's.
pub fn bound(process: &Process, program: Program) -> Result<()> {
    let sets = Sets::of(process.capabilities().as_ref(), program);
    for cap in bounding::probe() - sets.bounding {
        bounding::drop(cap).with_context(|| format!("the capability {cap} cannot be dropped"))?;
    }
    Ok(())
}

/// Becomes the process's user, with its groups, capabilities and file mode mask.
///
/// # Errors
/// The kernel's.
pub fn become_user(process: &Process, program: Program) -> Result<()> {
    let sets = Sets::of(process.capabilities().as_ref(), program);
    let user = process.user();
    capctl::prctl::set_keepcaps(true)?;
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    setgroups(&groups).context("the supplementary groups cannot be set")?;
    setresgid(gid, gid, gid).with_context(|| format!("the group {gid} cannot be taken"))?;
    setresuid(uid, uid, uid).with_context(|| format!("the user {uid} cannot be taken"))?;
    capctl::prctl::set_keepcaps(false)?;
    // The umask of a container is 0022 unless the spec says otherwise, as runc's.
    umask(Mode::from_bits_truncate(user.umask().unwrap_or(0o022)));
    CapState { effective: sets.effective, permitted: sets.permitted, inheritable: sets.inheritable }
        .set_current()
        .context("the capabilities cannot be set")?;
    ambient::clear().ok();
    for cap in sets.ambient & sets.permitted & sets.inheritable {
        ambient::raise(cap).with_context(|| format!("the ambient capability {cap} cannot be raised"))?;
    }
    Ok(())
}

/// The five sets of a process.
struct Sets {
    bounding: CapSet,
    effective: CapSet,
    permitted: CapSet,
    inheritable: CapSet,
    ambient: CapSet,
}

impl Sets {
    fn of(capabilities: Option<&LinuxCapabilities>, program: Program) -> Self {
        let bound: CapSet = match program {
            Program::Wasm => USEFUL_TO_WASM.into_iter().collect(),
            Program::Native => !CapSet::empty(),
        };
        let set = |asked: fn(&LinuxCapabilities) -> &Option<HashSet<Capability>>| {
            let asked = capabilities.and_then(|capabilities| asked(capabilities).as_ref());
            asked.into_iter().flatten().filter_map(known).collect::<CapSet>() & bound
        };
        Self {
            bounding: set(LinuxCapabilities::bounding),
            effective: set(LinuxCapabilities::effective),
            permitted: set(LinuxCapabilities::permitted),
            inheritable: set(LinuxCapabilities::inheritable),
            ambient: set(LinuxCapabilities::ambient),
        }
    }
}

/// The kernel's capability of this name; one that this build does not know cannot be given, and runc leaves it out too.
fn known(capability: &Capability) -> Option<Cap> {
    format!("CAP_{capability}").parse().ok()
}

fn resource(typ: PosixRlimitType) -> i32 {
    let resource = match typ {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    };
    #[allow(clippy::unnecessary_cast, reason = "the type differs between C libraries")]
    let resource = resource as i32;
    resource
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities() -> LinuxCapabilities {
        serde_json::from_str(
            r#"{"bounding":["CAP_SYS_ADMIN","CAP_MKNOD","CAP_NET_BIND_SERVICE"],"effective":["CAP_CHOWN","CAP_KILL"]}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_guest_gets_what_the_spec_gives_and_wasm_can_use() {
        let sets = Sets::of(Some(&capabilities()), Program::Wasm);
        assert_eq!(sets.bounding, [Cap::NET_BIND_SERVICE].into_iter().collect());
        assert_eq!(sets.effective, [Cap::CHOWN].into_iter().collect());
        assert!(Sets::of(None, Program::Wasm).bounding.is_empty());
    }

    #[test]
    fn a_native_program_gets_what_the_spec_gives() {
        let sets = Sets::of(Some(&capabilities()), Program::Native);
        assert!(sets.bounding.has(Cap::SYS_ADMIN) && sets.effective.has(Cap::KILL));
        assert!(sets.bounding.has(Cap::MKNOD));
    }
}
