//! Images that one tool makes, another moves and containerd runs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::{Bed, LIMIT};
use wisp_tests::pages::Page;
use wisp_tests::process;
use wisp_tests::registry::Registry;
use wisp_tests::suite::Case;
use wisp_tests::task::Container;
use wisp_tests::{Outcome, cases, site};

pub(crate) const CASES: &[Case] = cases![Shared:
    an_image_that_wisp_made_runs_without_a_registry,
    an_image_that_wisp_pushed_is_pulled_and_runs,
    an_image_that_ctr_pushed_is_pulled_by_wisp_and_runs,
    an_image_that_containerd_exported_is_loaded_by_wisp_and_runs,
    an_image_that_buildah_built_is_loaded_by_wisp_and_runs,
    skopeo_moves_what_wisp_made_and_wisp_what_skopeo_moved,
    an_artifact_goes_from_oras_to_wisp_and_back_unchanged,
];

const HELLO: &str = "hello from Rust, WASI 0.2\n";

/// A person with a store of their own, beside a containerd.
pub(crate) struct Person<'a> {
    bed: &'a Bed,
    pub(crate) folder: PathBuf,
}

impl<'a> Person<'a> {
    pub(crate) fn new(bed: &'a Bed, case: &str) -> Result<Self> {
        let folder = bed.folder.join(format!("images-{case}"));
        fs::create_dir_all(&folder)?;
        Ok(Self { bed, folder })
    }

    pub(crate) fn registry(&self, port: u16) -> Result<Registry> {
        Registry::start(&self.bed.space, &self.folder.join("registry"), port)
    }

    fn command(&self, program: PathBuf, args: &[&str]) -> Result<Command> {
        // A process that enters a space is at its root.
        let mut command = self.bed.space.command("env");
        command.arg("-C").arg(&self.folder).arg(program).args(args);
        let ctr = site::server(self.bed.version, "ctr")?;
        let bin = ctr.parent().context("a folder of programs")?;
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display())).env("XDG_DATA_HOME", &self.folder);
        Ok(command)
    }

    pub(crate) fn wisp(&self, args: &[&str]) -> Result<String> {
        process::run(&mut self.command(site::binary("wisp")?, args)?, LIMIT)?.success()
    }

    /// The same, and into containerd.
    pub(crate) fn wisp_in(&self, args: &[&str]) -> Result<String> {
        let address = format!("--address={}", self.bed.socket().display());
        let namespace = format!("--containerd={}", self.bed.namespace);
        self.wisp(&[&args[..1], &[&namespace, &address], &args[1..]].concat())
    }

    fn oras(&self, args: &[&str]) -> Result<String> {
        process::run(&mut self.command(site::registry("oras")?, args)?, LIMIT)?.success()
    }

    /// A program of this machine.
    fn tool(&self, name: &str, args: &[&str]) -> Result<String> {
        process::run(&mut self.command(name.into(), args)?, LIMIT)?.success().with_context(|| name.to_owned())
    }

    pub(crate) fn skopeo(&self, args: &[&str]) -> Result<String> {
        self.tool("skopeo", &[&["--insecure-policy"], args].concat())
    }

    pub(crate) fn says_hello(&self, image: &str) -> Outcome {
        self.says_hello_by("/rust-0.2.wasm", image)
    }

    fn says_hello_by(&self, program: &str, image: &str) -> Outcome {
        let ended = Container::of_image(self.bed, image, &[program, "hello"]).run()?;
        ensure!(ended.code == 0 && ended.stdout == HELLO, "{ended:?}");
        Ok(())
    }
}

fn guest() -> Result<String> {
    Ok(site::guest("rust-0.2.wasm")?.display().to_string())
}

fn an_image_that_wisp_made_runs_without_a_registry(bed: &Bed) -> Outcome {
    let person = Person::new(bed, "made")?;
    person.wisp_in(&["build", "-t", "wisp.test/made:1", "--cmd", "hello", &guest()?])?;
    person.says_hello("wisp.test/made:1")?;
    let ended = Container::of_image(bed, "wisp.test/made:1", &[]).run()?;
    ensure!(ended.stdout == HELLO, "the image's own command: {ended:?}");
    Ok(())
}

fn an_image_that_wisp_pushed_is_pulled_and_runs(bed: &Bed) -> Outcome {
    let person = Person::new(bed, "pushed")?;
    let registry = person.registry(5101)?;
    let name = registry.name("team/app:1");
    let pushed = person.wisp(&["push", &guest()?, &name])?;
    let digest = pushed.trim();
    ensure!(digest.starts_with("sha256:") && digest.len() == 71, "{pushed:?}");
    bed.ctr(&["images", "pull", "--plain-http", &name])?.success()?;
    person.says_hello(&name)?;
    // By digest, and under another name that the registry copies to.
    let copied = registry.name("other/app:2");
    person.wisp(&["cp", &name, &copied])?;
    let by_digest = format!("{}@{digest}", registry.name("other/app"));
    bed.ctr(&["images", "pull", "--plain-http", &by_digest])?.success()?;
    person.says_hello(&by_digest)
}

fn an_image_that_ctr_pushed_is_pulled_by_wisp_and_runs(bed: &Bed) -> Outcome {
    let person = Person::new(bed, "pulled")?;
    let registry = person.registry(5102)?;
    let (name, guests) = (registry.name("guests:1"), bed.import_guests()?);
    bed.ctr(&["images", "push", "--plain-http", &name, guests])?.success()?;
    person.wisp_in(&["pull", &name])?;
    person.says_hello(&name)?;
    // And here, pulled for it into an empty store.
    let ended = Person::new(bed, "run")?.wisp(&["run", &name, "hello"])?;
    ensure!(ended == HELLO, "{ended}");
    let listed = person.wisp(&["images", "--quiet"])?;
    ensure!(listed == format!("{name}\n"), "{listed:?}");
    Ok(())
}

fn an_image_that_containerd_exported_is_loaded_by_wisp_and_runs(bed: &Bed) -> Outcome {
    let person = Person::new(bed, "loaded")?;
    let guests = bed.import_guests()?;
    let archive = person.folder.join("guests.tar").display().to_string();
    // Else ctr of 2.x does not wait until it has written all that containerd sends (`MarshalAny` of its `ImageExportStream`).
    let local: &[&str] = if bed.version.starts_with('2') { &["--local"] } else { &[] };
    bed.ctr(&[&["images", "export"], local, &[&archive, guests]].concat())?.success()?;
    person.wisp(&["load", "-i", &archive])?;
    person.wisp(&["tag", guests, "wisp.test/loaded:1"])?;
    person.wisp(&["save", "-o", "again.tar", "wisp.test/loaded:1"])?;
    let again = person.folder.join("again.tar").display().to_string();
    bed.ctr(&["images", "import", &again])?.success()?;
    person.says_hello("wisp.test/loaded:1")
}

fn an_image_that_buildah_built_is_loaded_by_wisp_and_runs(bed: &Bed) -> Outcome {
    let person = Person::new(bed, "buildah")?;
    fs::copy(guest()?, person.folder.join("app.wasm"))?;
    let page = Page::read("docs/images.md")?;
    let dockerfile = page.blocks("dockerfile").next().context("a Dockerfile")?;
    fs::write(person.folder.join("Dockerfile"), dockerfile)?;
    let storage = ["--storage-driver", "vfs", "--root", "storage", "--runroot", "storage-run"];
    let buildah = |args: &[&str]| person.tool("buildah", &[&storage, args].concat());
    buildah(&["build", "--isolation", "chroot", "-t", "wisp.test/buildah", "."])?;
    // Of OCI's form and of Docker's.
    for form in ["oci-archive", "docker-archive"] {
        let name = format!("wisp.test/{form}:1");
        buildah(&["push", "wisp.test/buildah", &format!("{form}:{form}.tar:{name}")])?;
        person.wisp_in(&["load", "-i", &format!("{form}.tar")])?;
        person.says_hello_by("/app.wasm", &name)?;
    }
    Ok(())
}

fn skopeo_moves_what_wisp_made_and_wisp_what_skopeo_moved(bed: &Bed) -> Outcome {
    let person = Person::new(bed, "skopeo")?;
    let registry = person.registry(5104)?;
    person.wisp(&["build", "-t", "wisp.test/app:1", &guest()?])?;
    person.wisp(&["save", "-o", "app.tar", "wisp.test/app:1"])?;
    for (from, name) in [
        ("oci-archive:app.tar", registry.name("skopeo:archive")),
        ("docker-archive:app.tar", registry.name("skopeo:docker")),
        ("oci:wisp/images:1", registry.name("skopeo:layout")),
    ] {
        person.skopeo(&["copy", "--dest-tls-verify=false", from, &format!("docker://{name}")])?;
        bed.ctr(&["images", "pull", "--plain-http", &name])?.success()?;
        person.says_hello(&name)?;
    }
    let (from, again) = (registry.name("skopeo:archive"), registry.name("again:1"));
    person.skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{from}"), "oci:layout:moved"])?;
    let said = person.wisp(&["run", "layout:moved", "hello"])?;
    ensure!(said == HELLO, "{said}");
    person.wisp(&["push", "layout:moved", &again])?;
    bed.ctr(&["images", "pull", "--plain-http", &again])?.success()?;
    person.says_hello(&again)
}

fn an_artifact_goes_from_oras_to_wisp_and_back_unchanged(bed: &Bed) -> Outcome {
    let person = Person::new(bed, "artifact")?;
    let registry = person.registry(5103)?;
    fs::copy(guest()?, person.folder.join("app.wasm"))?;
    let pushed = registry.name("oras:1");
    person.oras(&["push", "--plain-http", &pushed, "app.wasm:application/wasm"])?;
    let pulled = person.wisp(&["pull", &pushed])?;
    let again = registry.name("again:1");
    person.wisp(&["tag", &pushed, &again])?;
    let sent = person.wisp(&["push", &again])?;
    ensure!(sent == pulled, "the digest has changed: {pulled:?}, {sent:?}");
    let made = registry.name("made:1");
    person.wisp(&["push", "--artifact", "app.wasm", &made])?;
    for name in [again, made] {
        let folder = person.folder.join("out").display().to_string();
        person.oras(&["pull", "--plain-http", "--output", &folder, &name])?;
        ensure!(fs::read(person.folder.join("out/app.wasm"))? == fs::read(guest()?)?, "{name}");
        fs::remove_dir_all(&folder)?;
    }
    Ok(())
}
