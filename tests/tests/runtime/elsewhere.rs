//! What Wisp makes runs elsewhere: taken from a registry by other tools, and run by other engines.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::LIMIT;
use wisp_tests::registry::Registry;
use wisp_tests::space::{Cache, Space};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, process, site};

pub(crate) const CASES: &[Case] = cases![Once:
    node_runs_what_oras_and_skopeo_pulled_from_wisp,
    a_package_is_run_and_inspected_by_the_name_that_wkg_has_for_it,
];

pub(crate) const REQUESTED: &[Case] = cases![OnRequest:
    wasmtime_runs_what_oras_and_skopeo_pulled_from_wisp,
    wkg_and_wisp_take_each_others_packages,
];

/// Runs the file that is its first argument as a command of WASI 0.1, by V8 and Node's own WASI.
const NODE: &str = "
import { readFile } from 'node:fs/promises';
import { WASI } from 'node:wasi';
const wasi = new WASI({ version: 'preview1', args: process.argv.slice(2) });
const imports = { wasi_snapshot_preview1: wasi.wasiImport };
const { instance } = await WebAssembly.instantiate(await readFile(process.argv[2]), imports);
wasi.start(instance);
";

fn node_runs_what_oras_and_skopeo_pulled_from_wisp() -> Outcome {
    let shelf = Shelf::new("node", 5106)?;
    fs::write(shelf.folder.join("run.mjs"), NODE)?;
    for file in shelf.pulled("rust-0.1.wasm")? {
        let said = shelf.run("node", &["--no-warnings", "run.mjs", &file, "hello"])?;
        ensure!(said == "hello from Rust, WASI 0.1\n", "{file}: {said}");
    }
    Ok(())
}

fn wasmtime_runs_what_oras_and_skopeo_pulled_from_wisp() -> Outcome {
    let shelf = Shelf::new("wasmtime", 5107)?;
    for file in shelf.pulled("rust-0.2.wasm")? {
        let said = shelf.run(site::wasmtime()?, &["run", "-S", "http", &file, "hello"])?;
        ensure!(said == "hello from Rust, WASI 0.2\n", "{file}: {said}");
    }
    Ok(())
}

fn a_package_is_run_and_inspected_by_the_name_that_wkg_has_for_it() -> Outcome {
    let shelf = Shelf::new("package", 5113)?;
    let (wisp, guest) = (site::binary("wisp")?, site::guest("rust-0.2.wasm")?.display().to_string());
    shelf.configure_wkg()?;
    let pushed = shelf.run(&wisp, &["push", "--artifact", &guest, "tests:app@1.0.0"])?;
    let said = shelf.run(&wisp, &["run", "tests:app@1.0.0", "hello"])?;
    ensure!(said == "hello from Rust, WASI 0.2\n", "{said}");
    let said = shelf.run(&wisp, &["inspect", "tests:app@1.0.0"])?;
    ensure!(said.contains("WASI 0.2 command"), "{said}");
    // It is an image like others.
    let pulled = shelf.run(&wisp, &["pull", &shelf.registry.name("tests/app:1.0.0")])?;
    ensure!(pulled == pushed, "{pulled}, and pushed was {pushed}");
    Ok(())
}

fn wkg_and_wisp_take_each_others_packages() -> Outcome {
    let shelf = Shelf::new("wkg", 5109)?;
    let (wisp, guest) = (site::binary("wisp")?, site::guest("rust-0.2.wasm")?);
    let path = guest.display().to_string();
    shelf.configure_wkg()?;
    let wkg = |args: &[&str]| shelf.run(site::wkg()?, args);

    shelf.run(&wisp, &["push", "--artifact", &path, "tests:ours@1.0.0"])?;
    wkg(&["get", "--output", "./ours.wasm", "tests:ours@1.0.0"])?;
    ensure!(fs::read(shelf.folder.join("ours.wasm"))? == fs::read(&guest)?, "wkg got something else");

    // `wkg publish` of 0.16 wants a version in the component, whatever its --package says.
    wkg(&[
        "oci",
        "push",
        "--insecure",
        &shelf.registry.address,
        &shelf.registry.name("tests/theirs:1.0.0"),
        &path,
    ])?;
    let said = shelf.run(&wisp, &["run", "tests:theirs@1.0.0", "hello"])?;
    ensure!(said == "hello from Rust, WASI 0.2\n", "{said}");
    Ok(())
}

/// A registry, and a folder that its images are pulled into.
struct Shelf {
    space: Space,
    folder: PathBuf,
    registry: Registry,
}

impl Shelf {
    fn new(case: &str, port: u16) -> Result<Self> {
        let folder = site::run_folder()?.join(format!("elsewhere-{case}"));
        fs::create_dir_all(&folder)?;
        let space = Space::new(Cache::Folder(site::run_folder()?.join("cache")), None)?;
        let registry = Registry::start(&space, &folder.join("registry"), port)?;
        Ok(Self { space, folder, registry })
    }

    /// A program that `wisp` pushed, as files that others pulled: the artifact by oras, the image by skopeo.
    fn pulled(&self, guest: &str) -> Result<[String; 2]> {
        let path = site::guest(guest)?.display().to_string();
        let (artifact, image) = (self.registry.name("artifact:1"), self.registry.name("image:1"));
        let wisp = site::binary("wisp")?;
        self.run(&wisp, &["push", "--artifact", &path, &artifact])?;
        self.run(&wisp, &["push", &path, &image])?;
        self.run(site::registry("oras")?, &["pull", "--plain-http", "--output", "oras", &artifact])?;
        let from = format!("docker://{image}");
        self.run("skopeo", &["--insecure-policy", "copy", "--src-tls-verify=false", &from, "dir:skopeo"])?;
        self.unpack("skopeo")?;
        Ok(["oras", "skopeo"].map(|folder| format!("{folder}/{guest}")))
    }

    /// Unpacks the layers of an image in skopeo's form: its blobs are called by their digests.
    fn unpack(&self, folder: &str) -> Outcome {
        let manifest = fs::read_to_string(self.folder.join(folder).join("manifest.json"))?;
        let manifest: serde_json::Value = serde_json::from_str(&manifest)?;
        for layer in manifest["layers"].as_array().context("no layers")? {
            let blob = layer["digest"].as_str().context("a layer without a digest")?.replace("sha256:", "");
            self.run("tar", &["-xf", &format!("{folder}/{blob}"), "-C", folder])?;
        }
        Ok(())
    }

    /// Tells wkg, and whoever reads its configuration, that packages of `tests` are in the registry.
    fn configure_wkg(&self) -> Outcome {
        let address = &self.registry.address;
        fs::create_dir_all(self.folder.join("wasm-pkg"))?;
        let text = format!(
            "[namespace_registries.tests]\nregistry = \"{address}\"\n\
             metadata = {{ preferredProtocol = \"oci\", oci = {{ registry = \"{address}\", namespacePrefix = \"\" }} }}\n\
             [registry.\"{address}\".oci]\nprotocol = \"http\"\n"
        );
        Ok(fs::write(self.folder.join("wasm-pkg/config.toml"), text)?)
    }

    fn run(&self, program: impl AsRef<Path>, args: &[&str]) -> Result<String> {
        let program = program.as_ref();
        // A process that enters a space is at its root.
        let mut command = self.space.command("env");
        command.arg("-C").arg(&self.folder).arg(program).args(args);
        command.env("XDG_DATA_HOME", &self.folder).env("XDG_CONFIG_HOME", &self.folder);
        process::run(&mut command, LIMIT)?
            .success()
            .with_context(|| format!("{} {}", program.display(), args.join(" ")))
    }
}
