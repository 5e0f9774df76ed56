//! What Wisp gives programs of what they import; `wisp-guest` links these, and its tests hold the two together.

/// The same in words, for messages.
pub const IN_WORDS: &str =
    "WASI 0.1 (modules), or WASI 0.2.0 to 0.2.12 and 0.3.0 with wasi:http (components)";

/// The functions of WASI 0.1, all in the module `wasi_snapshot_preview1`.
pub const WASI_0_1: &[&str] = &[
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// The interfaces of WASI 0.2.
pub const WASI_0_2: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// The interfaces of WASI 0.3.
pub const WASI_0_3: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/types",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/system-clock",
    "wasi:clocks/types",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/client",
    "wasi:http/types",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/types",
];

/// Whether a core module is given its import `module::name`.
#[must_use]
pub fn to_modules(import: &str) -> bool {
    import.strip_prefix("wasi_snapshot_preview1::").is_some_and(|name| WASI_0_1.contains(&name))
}

/// Whether a component is given the interface `ns:pkg/iface@version`. A later patch version than Wisp knows is given too, as
/// far as its functions are those of an earlier one.
#[must_use]
pub fn to_components(import: &str) -> bool {
    let Some((interface, version)) = import.split_once('@') else { return false };
    let of = |minor: &str, interfaces: &[&str]| {
        version.strip_prefix(minor).is_some_and(|patch| patch.parse::<u32>().is_ok())
            && interfaces.contains(&interface)
    };
    of("0.2.", WASI_0_2) || of("0.3.", WASI_0_3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_depends_on_the_version() {
        assert!(to_components("wasi:cli/stdout@0.2.0") && to_components("wasi:cli/types@0.3.0"));
        for other in [
            "wasi:cli/types@0.2.0",
            "wasi:cli/stdout@0.2.0-rc-2023-11-10",
            "wasi:cli/stdout",
            "my:own/thing@0.2.0",
        ] {
            assert!(!to_components(other), "{other}");
        }
        assert!(to_modules("wasi_snapshot_preview1::fd_write"));
        assert!(!to_modules("wasi_unstable::fd_write") && !to_modules("env::memory"));
    }
}
