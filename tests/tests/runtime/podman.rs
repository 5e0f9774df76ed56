//! `wisp-runtime` as Podman's runtime.

use std::fs;

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::LIMIT;
use wisp_tests::space::{Cache, Space};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, process, site};

pub(crate) const CASES: &[Case] = cases![Once:
    podman_runs_what_wisp_saved,
];

fn podman_runs_what_wisp_saved() -> Outcome {
    let folder = site::run_folder()?.join("podman");
    fs::create_dir_all(&folder)?;
    let space = Space::new(Cache::Folder(site::run_folder()?.join("cache")), None)?;
    let run = |program: &str, args: &[&str]| -> Result<String> {
        // A process that enters a space is at its root.
        let mut command = space.command("env");
        command.arg("-C").arg(&folder).arg(program).args(args).env("XDG_DATA_HOME", &folder);
        process::run(&mut command, LIMIT)?.success().with_context(|| format!("{program} {}", args.join(" ")))
    };
    let (wisp, runtime) = (site::binary("wisp")?, site::binary("wisp-runtime")?);
    let (wisp, runtime) = (wisp.display().to_string(), runtime.display().to_string());
    let guest = site::guest("rust-0.1.wasm")?.display().to_string();
    run(&wisp, &["build", "-t", "wisp.test/app:1", &guest])?;
    run(&wisp, &["save", "-o", "app.tar", "wisp.test/app:1"])?;
    let storage =
        ["--storage-driver=vfs", "--root=storage", "--runroot=storage-run", "--cgroup-manager=cgroupfs"];
    let podman = |args: &[&str]| run("podman", &[&storage, args].concat());
    podman(&["load", "-i", "app.tar"])?;
    // Podman asks for more than root may have in a container, which runc does not give either.
    let options = ["--rm", "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
    let said =
        podman(&[&["run", "--runtime", &runtime], &options[..], &["wisp.test/app:1", "hello"]].concat())?;
    ensure!(said == "hello from Rust, WASI 0.1\n", "{said}");
    Ok(())
}
