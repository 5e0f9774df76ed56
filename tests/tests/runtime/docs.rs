//! What the documentation types, typed: with a registry on loopback in the place of `registry.example` and `other.example`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use wisp_tests::bed::LIMIT;
use wisp_tests::pages::{self, Page};
use wisp_tests::process;
use wisp_tests::registry::Registry;
use wisp_tests::space::{Cache, Space};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, site};

pub(crate) const CASES: &[Case] = cases![Once:
    the_quick_start_goes_as_written_up_to_the_node,
    the_commands_for_programs_and_images_go_as_written,
    what_oras_pushes_as_written_is_pulled_by_wisp,
];

/// The pages whose commands are typed here.
const PAGES: &[&str] = &["docs/images.md", "docs/cli.md"];

/// What of them is not: what wants a node's containerd, a terminal with a person, or an end to be told. `typed.rs` names the test.
const ELSEWHERE: &[&str] =
    &["--containerd", "wisp top", "wisp login", "wisp logout", "service.wasm", "docker "];

/// Whether a case of this file types a line of a page.
pub(crate) fn is_typed(path: &str, line: &str) -> bool {
    let is_ours =
        ["wisp ", "build | wisp ", "digest=", "echo '{", "oras "].iter().any(|word| line.starts_with(word));
    // The first command of README's that needs no cluster is one of the command line's.
    let is_here = PAGES.contains(&path) || line.starts_with("wisp run app.wasm ");
    is_here && is_ours && !ELSEWHERE.iter().any(|word| pages::command(line).contains(word))
}

/// Somebody at a shell, with a registry that every name leads to.
struct Person {
    space: Space,
    folder: PathBuf,
    registry: Registry,
}

impl Person {
    fn new(case: &str, port: u16) -> Result<Self> {
        let folder = site::run_folder()?.join(format!("docs-{case}"));
        fs::create_dir_all(folder.join("data"))?;
        let mut layers = Vec::new();
        for top in ["etc", "usr/share"] {
            let layer = |name: &str| folder.join(top).join(name);
            fs::create_dir_all(layer("upper"))?;
            fs::create_dir_all(layer("work"))?;
            let (upper, work) = (layer("upper"), layer("work"));
            let options = format!("lowerdir=/{top},upperdir={},workdir={}", upper.display(), work.display());
            layers.push((format!("/{top}"), options));
        }
        let space = Space::new(Cache::Folder(folder.join("cache")), None)?;
        let registry = Registry::start(&space, &folder.join("registry"), port)?;
        let hosts = format!("server = \"http://{}\"\n", registry.address);
        space.inside(move || {
            for (top, options) in &layers {
                mount(
                    Some("overlay"),
                    top.as_str(),
                    Some("overlay"),
                    MsFlags::empty(),
                    Some(options.as_str()),
                )?;
            }
            fs::create_dir_all("/usr/share/bash-completion/completions")?;
            fs::create_dir_all("/etc/containerd/certs.d/_default")?;
            Ok(fs::write("/etc/containerd/certs.d/_default/hosts.toml", hosts)?)
        })?;
        Ok(Self { space, folder, registry })
    }

    fn types(&self, lines: &str) -> Result<String> {
        let wisp = site::binary("wisp")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", wisp.parent().context("a folder of programs")?.display());
        let mut shell = self.space.command("sh");
        shell.args(["-ec", &format!("cd {}\n{lines}", self.folder.display())]);
        shell.env("PATH", path).env("XDG_DATA_HOME", &self.folder).env_remove("CARGO_TARGET_DIR");
        // A first build of Cargo's takes its time on a busy machine.
        process::run(&mut shell, 2 * LIMIT)?.success().with_context(|| lines.to_owned())
    }
}

fn the_quick_start_goes_as_written_up_to_the_node() -> Outcome {
    let person = Person::new("quick-start", 5131)?;
    let page = Page::read("docs/quick-start.md")?;
    let lines: Vec<_> = page.typed().take_while(|line| !line.starts_with("sudo ")).collect();
    ensure!(lines.len() >= 7, "{lines:?}");
    let said = person.types(&lines.join("\n"))?;
    ensure!(said.starts_with("Hello, world!\n"), "{said}");
    ensure!(said.contains("WASI 0.2 command"), "{said}");
    let pushed = said.lines().last().unwrap_or_default();
    ensure!(pushed.starts_with("sha256:"), "{said}");
    let pulled = person.types("wisp pull --all-platforms registry.example/hello:1")?;
    ensure!(pulled.trim() == pushed, "{pulled} was pulled and {pushed} pushed");
    Ok(())
}

fn the_commands_for_programs_and_images_go_as_written() -> Outcome {
    let person = Person::new("commands", 5132)?;
    fs::create_dir_all(person.folder.join("wisp"))?;
    // A layout that has an image with the tag 1.
    symlink("wisp/images", person.folder.join("layout"))?;
    fs::copy(site::guest("rust-0.2.wasm")?, person.folder.join("app.wasm"))?;
    let sums =
        "(module (func (export \"add\") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))";
    fs::write(person.folder.join("sums.wat"), sums)?;
    let mut ran = 0;
    for path in PAGES {
        let page = Page::read(path)?;
        for line in page.typed().filter(|line| line.contains("wisp ") && is_typed(path, line)) {
            // The guest takes its first argument for a verb, and has none of the page's.
            let line = line.replace("app.wasm --verbose", "app.wasm hello").replace("- args", "- hello");
            person.types(&format!("build() {{ cat app.wasm; }}\n{line}"))?;
            ran += 1;
        }
    }
    ensure!(ran >= 19, "{ran} commands were found");
    Ok(())
}

fn what_oras_pushes_as_written_is_pulled_by_wisp() -> Outcome {
    let person = Person::new("oras", 5133)?;
    fs::copy(site::guest("rust-0.2.wasm")?, person.folder.join("app.wasm"))?;
    let page = Page::read("docs/images.md")?;
    let block = page.blocks("sh").find(|block| block.contains("oras push")).context("a block with oras")?;
    // oras does not read certs.d, which leads to the registry.
    let block = block
        .replace("oras push", "oras push --plain-http")
        .replace("registry.example", &person.registry.address);
    let oras = site::registry("oras")?;
    person.types(&format!("oras() {{ {} \"$@\"; }}\n{block}", oras.display()))?;
    let said = person.types("wisp run registry.example/app:1 hello")?;
    ensure!(said == "hello from Rust, WASI 0.2\n", "{said}");
    Ok(())
}
