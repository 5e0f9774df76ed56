//! Programs of images in the cache of compiled code: once, and with `wisp compile` before the first container that runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wisp_tests::bed::{Bed, LIMIT, Options};
use wisp_tests::image::Image;
use wisp_tests::process::{self, Finished};
use wisp_tests::space::Cache;
use wisp_tests::suite::Case;
use wisp_tests::task::{Container, WISP};
use wisp_tests::{Outcome, cases, site};

pub(crate) const CASES: &[Case] = cases![Own:
    the_program_of_an_image_is_compiled_before_its_first_container,
    what_containerd_has_is_compiled_and_a_native_program_is_refused,
    a_program_is_compiled_once_however_many_start_at_once,
];

/// A containerd with a cache of its own that is empty, and the `wisp` that is installed beside its shim.
struct Node {
    bed: std::sync::Arc<Bed>,
    cache: PathBuf,
}

impl Node {
    fn new(case: &str, version: &'static str) -> Result<Self> {
        let cache = site::run_folder()?.join(format!("compile-{case}-{version}"));
        let options = Options { cache: Some(Cache::Folder(cache.clone())), ..Options::default() };
        Ok(Self { bed: Bed::start_with(version, options)?, cache })
    }

    fn wisp(&self, args: &[&str]) -> Result<Finished> {
        let mut command = self.bed.space.command(self.bed.folder.join("wisp/bin/wisp"));
        let ctr = site::server(self.bed.version, "ctr")?;
        let bin = ctr.parent().context("a folder of programs")?;
        command.args(args).env("PATH", bin).env("XDG_DATA_HOME", &self.bed.folder);
        process::run(&mut command, LIMIT)
    }

    /// The options that name its containerd.
    fn containerd(&self) -> [String; 2] {
        [format!("--containerd={}", self.bed.namespace), format!("--address={}", self.bed.socket().display())]
    }

    /// The files of compiled code, and when each was written.
    fn code(&self) -> Result<Vec<(PathBuf, SystemTime)>> {
        let all = fs::read_dir(&self.cache)?.flatten().map(|entry| entry.path());
        let code = all.filter(|path| path.extension().is_some_and(|extension| extension == "code"));
        let mut code = code
            .map(|path| Ok((path.clone(), fs::metadata(path)?.modified()?)))
            .collect::<Result<Vec<_>>>()?;
        code.sort();
        Ok(code)
    }

    /// Runs the image's own program, for which nothing is compiled.
    fn runs_compiled(&self, image: &str) -> Outcome {
        let before = self.code()?;
        ensure!(before.len() == 1, "{before:?}");
        let ended = Container::of_image(&self.bed, image, &[]).runtime(WISP).run()?.code(0)?;
        ensure!(ended.stdout.starts_with("hello from Rust"), "{ended:?}");
        ensure!(self.code()? == before, "it was compiled again: {:?}, before {before:?}", self.code()?);
        Ok(())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

fn the_program_of_an_image_is_compiled_before_its_first_container(version: &'static str) -> Outcome {
    let node = Node::new("store", version)?;
    let [namespace, address] = node.containerd();
    let (image, artifact, wasm) =
        ("wisp.test/files:1", "wisp.test/artifact:1", site::guest("rust-0.2.wasm")?);
    node.wisp(&["build", "-t", image, &namespace, &address, "--cmd", "hello", text(&wasm)])?.success()?;
    let said = node.wisp(&["compile", image])?.success()?;
    ensure!(said.starts_with("wisp.test/files:1 /rust-0.2.wasm: WASI 0.2 command, "), "{said}");
    let listed: Value = serde_json::from_str(&node.wisp(&["compile", "--json", image])?.success()?)?;
    ensure!(listed[0]["program"] == "wisp.test/files:1 /rust-0.2.wasm", "{listed}");
    ensure!(listed[0]["kind"] == "command02" && listed[0]["code_bytes"].as_u64() > Some(0), "{listed}");
    node.runs_compiled(image)?;
    // An artifact of the same program has the same code.
    node.wisp(&["build", "-t", artifact, "--artifact", text(&wasm)])?.success()?;
    node.wisp(&["compile", artifact])?.success()?;
    node.runs_compiled(image)?;
    for name in [image, artifact] {
        let report: Value = serde_json::from_str(&node.wisp(&["inspect", "--json", name])?.success()?)?;
        ensure!(report["compiled"]["code_bytes"].as_u64() > Some(0), "{name}: {report}");
    }
    Ok(())
}

fn what_containerd_has_is_compiled_and_a_native_program_is_refused(version: &'static str) -> Outcome {
    let node = Node::new("node", version)?;
    let [namespace, address] = node.containerd();
    let image = Image::new("wisp.test/there:1")
        .file_of("/app.wasm", site::guest("rust-0.1.wasm")?)
        .config("Entrypoint", json!(["/app.wasm"]))
        .config("Cmd", json!(["hello"]));
    node.bed.import(&image, &[])?;
    let compile = |name: &str| node.wisp(&["compile", &namespace, &address, name]);
    compile(image.name())?.success()?;
    node.runs_compiled(image.name())?;
    let inspected = node.wisp(&["inspect", &namespace, &address, image.name()])?.success()?;
    ensure!(inspected.contains("WASI 0.1 command"), "{inspected}");

    let native = Image::new("wisp.test/native:1")
        .file_of("/native", site::guest("native")?)
        .config("Entrypoint", json!(["/native"]));
    node.bed.import(&native, &[])?;
    for (name, words) in
        [(native.name(), "/native is a native program"), ("wisp.test/none:1", "has no image")]
    {
        let refused = compile(name)?;
        ensure!(refused.code == 1 && refused.stderr.contains(words), "{refused:?}");
    }
    Ok(())
}

fn a_program_is_compiled_once_however_many_start_at_once(version: &'static str) -> Outcome {
    let node = Node::new("once", version)?;
    let image = Image::new("wisp.test/once:1").file_of("/once.wasm", site::guest("go.wasm")?);
    node.bed.import(&image, &[])?;
    let container = || Container::of_image(&node.bed, image.name(), &["/once.wasm"]).runtime(WISP);
    let tasks = (0..8).map(|_| container().start());
    for task in tasks.collect::<Result<Vec<_>>>()? {
        task.wait()?.code(0)?.stdout("hello from Go, WASI 0.1\n")?;
    }
    let compiled = node.code()?;
    ensure!(compiled.len() == 1, "{compiled:?}");
    container().run()?.code(0)?;
    ensure!(node.code()? == compiled, "compiled a second time: {:?}", node.code()?);
    Ok(())
}
