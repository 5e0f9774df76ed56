//! What is in the binaries, and what is not.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use wisp_tests::bundle::Bundle;
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, site};

pub(crate) const CASES: &[Case] = cases![Once:
    every_binary_is_static,
    nothing_but_the_compiler_has_a_compiler,
    the_shim_and_the_runtime_have_no_wasmtime,
    nothing_that_runs_pods_has_a_registry_client,
    only_the_program_that_finds_artifacts_speaks_grpc,
    what_copies_memory_much_does_it_by_functions_of_its_own,
    a_guest_process_runs_from_a_mount_that_is_read_only_and_nowhere,
    every_binary_says_its_version,
];

const ALL: [&str; 6] =
    ["containerd-shim-wisp-v1", "wisp-runtime", "wisp-guest", "wisp-compiler", "wisp-artifact", "wisp"];

/// Whether a binary has the sources' name of a crate in the texts of its panics and errors.
fn has(binary: &str, text: &str) -> Result<bool> {
    let bytes = fs::read(site::binary(binary)?)?;
    Ok(bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

fn every_binary_is_static() -> Outcome {
    const PT_INTERP: u32 = 3;
    for name in ALL {
        let bytes = fs::read(site::binary(name)?)?;
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]) as usize;
        let table = usize::try_from(u64::from_le_bytes(bytes[32..40].try_into()?))?;
        let kinds = (0..u16_at(56)).map(|index| table + index * u16_at(54)).map(|at| u16_at(at) as u32);
        ensure!(!kinds.into_iter().any(|kind| kind == PT_INTERP), "{name} wants a dynamic linker");
    }
    Ok(())
}

fn nothing_but_the_compiler_has_a_compiler() -> Outcome {
    ensure!(
        has("wisp-compiler", "cranelift-codegen")?,
        "this test knows a compiler by a text that even the compiler lacks"
    );
    for name in ["containerd-shim-wisp-v1", "wisp-runtime", "wisp-guest"] {
        ensure!(!has(name, "cranelift-codegen")?, "{name} has a compiler in it");
    }
    Ok(())
}

fn the_shim_and_the_runtime_have_no_wasmtime() -> Outcome {
    ensure!(
        has("wisp-guest", "/wasmtime-")?,
        "this test knows Wasmtime by a text that even the guest process lacks"
    );
    for name in ["containerd-shim-wisp-v1", "wisp-runtime"] {
        ensure!(!has(name, "/wasmtime-")?, "{name} has Wasmtime in it");
    }
    Ok(())
}

fn nothing_that_runs_pods_has_a_registry_client() -> Outcome {
    for name in ["containerd-shim-wisp-v1", "wisp-runtime", "wisp-guest", "wisp-compiler"] {
        ensure!(!has(name, "/oci-client-")?, "{name} has a registry client in it");
    }
    Ok(())
}

fn only_the_program_that_finds_artifacts_speaks_grpc() -> Outcome {
    ensure!(
        has("wisp-artifact", "/tonic-")?,
        "this test knows gRPC by a text that even its only client lacks"
    );
    for name in ["containerd-shim-wisp-v1", "wisp-runtime", "wisp-guest"] {
        ensure!(!has(name, "/tonic-")?, "{name} has gRPC in it");
    }
    Ok(())
}

/// Musl's are right too, so that nothing else would tell that the linker took them.
fn what_copies_memory_much_does_it_by_functions_of_its_own() -> Outcome {
    for name in ["containerd-shim-wisp-v1", "wisp-runtime", "wisp-guest", "wisp-compiler"] {
        ensure!(has(name, "wisp_memory8transfer")?, "{name} was linked without wisp-memory");
    }
    Ok(())
}

/// What its neighbours reach as `/proc/PID/exe` they cannot write.
fn a_guest_process_runs_from_a_mount_that_is_read_only_and_nowhere() -> Outcome {
    let bundle = Bundle::new(&["/rust-0.1.wasm", "loop"])?;
    bundle.create()?;
    let pid = bundle.state()?["pid"].clone();
    let binary = File::open(format!("/proc/{pid}/exe"))?;
    ensure!(fstatvfs(&binary)?.flags().contains(FsFlags::ST_RDONLY), "its mount can be written");
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", binary.as_raw_fd()))?;
    let mount = about.lines().find_map(|line| line.strip_prefix("mnt_id:")).context(about.clone())?.trim();
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    ensure!(
        !mounts.is_empty() && !mounts.lines().any(|line| line.split(' ').next() == Some(mount)),
        "{mounts}"
    );
    Ok(())
}

fn every_binary_says_its_version() -> Outcome {
    for name in ["containerd-shim-wisp-v1", "wisp-runtime", "wisp-artifact", "wisp"] {
        let flag = if name == "containerd-shim-wisp-v1" { "-v" } else { "--version" };
        let mut command = std::process::Command::new(site::binary(name)?);
        let said = wisp_tests::process::run(command.arg(flag), wisp_tests::bed::LIMIT)?.success()?;
        ensure!(said.contains(env!("CARGO_PKG_VERSION")), "{name} says {said:?}");
    }
    Ok(())
}
