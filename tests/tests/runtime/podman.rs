//! `wisp-runtime` as Podman's runtime.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::LIMIT;
use wisp_tests::registry::Registry;
use wisp_tests::space::{Cache, Space};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, process, site};

pub(crate) const CASES: &[Case] = cases![Once:
    podman_runs_what_wisp_saved,
    podman_runs_what_buildah_built_and_wisp_copied,
];

/// Where Podman and buildah keep their images.
const STORAGE: [&str; 3] = ["--storage-driver=vfs", "--root=storage", "--runroot=storage-run"];
const HELLO: &str = "hello from Rust, WASI 0.1\n";

/// Somebody who has Podman, and a folder.
struct Person {
    space: Space,
    folder: PathBuf,
}

impl Person {
    fn new(case: &str) -> Result<Self> {
        let folder = site::run_folder()?.join(format!("podman-{case}"));
        fs::create_dir_all(&folder)?;
        let space = Space::new(Cache::Folder(site::run_folder()?.join("cache")), None)?;
        Ok(Self { space, folder })
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        // A process that enters a space is at its root.
        let mut command = self.space.command("env");
        command.arg("-C").arg(&self.folder).arg(program).args(args).env("XDG_DATA_HOME", &self.folder);
        process::run(&mut command, LIMIT)?.success().with_context(|| format!("{program} {}", args.join(" ")))
    }

    fn wisp(&self, args: &[&str]) -> Result<String> {
        self.run(&site::binary("wisp")?.display().to_string(), args)
    }

    fn buildah(&self, args: &[&str]) -> Result<String> {
        self.run("buildah", &[&STORAGE, args].concat())
    }

    fn podman(&self, args: &[&str]) -> Result<String> {
        self.run("podman", &[&STORAGE[..], &["--cgroup-manager=cgroupfs"], args].concat())
    }

    /// Has Podman run the image's program, which says hello.
    fn says_hello(&self, image: &str) -> Outcome {
        let runtime = site::binary("wisp-runtime")?.display().to_string();
        // Podman asks for more than root may have in a container, which runc does not give either.
        let options = ["--rm", "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
        let said =
            self.podman(&[&["run", "--runtime", &runtime], &options[..], &[image, "hello"]].concat())?;
        ensure!(said == HELLO, "{said}");
        Ok(())
    }
}

fn podman_runs_what_wisp_saved() -> Outcome {
    let person = Person::new("saved")?;
    person.wisp(&["build", "-t", "wisp.test/app:1", &site::guest("rust-0.1.wasm")?.display().to_string()])?;
    person.wisp(&["save", "-o", "app.tar", "wisp.test/app:1"])?;
    person.podman(&["load", "-i", "app.tar"])?;
    person.says_hello("wisp.test/app:1")
}

fn podman_runs_what_buildah_built_and_wisp_copied() -> Outcome {
    let person = Person::new("copied")?;
    let registry = Registry::start(&person.space, &person.folder.join("registry"), 5112)?;
    let (built, copied) = (registry.name("app:1"), registry.name("app:2"));
    fs::copy(site::guest("rust-0.1.wasm")?, person.folder.join("app.wasm"))?;
    fs::write(
        person.folder.join("Dockerfile"),
        "FROM scratch\nCOPY app.wasm /\nENTRYPOINT [\"/app.wasm\"]\n",
    )?;
    person.buildah(&["build", "--isolation", "chroot", "-t", &built, "."])?;
    person.buildah(&["push", "--tls-verify=false", &built])?;
    person.wisp(&["cp", &built, &copied])?;
    person.podman(&["pull", "--tls-verify=false", &copied])?;
    person.says_hello(&copied)
}
