//! What the documentation types, typed: with a registry on loopback in the place of `registry.example` and `other.example`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use wisp_tests::bed::LIMIT;
use wisp_tests::process;
use wisp_tests::registry::Registry;
use wisp_tests::space::{Cache, Space};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, site};

pub(crate) const CASES: &[Case] = cases![Once:
    the_quick_start_goes_as_written_up_to_the_node,
    the_commands_for_programs_and_images_go_as_written,
];

/// What of a page is not typed here: what wants a node's containerd, a terminal with a person, or an end to be told.
const ELSEWHERE: &[&str] =
    &["--containerd", "wisp completions", "wisp top", "wisp login", "wisp logout", "service.wasm"];

/// Somebody at a shell, with a registry that every name leads to.
struct Person {
    space: Space,
    folder: PathBuf,
    _registry: Registry,
}

impl Person {
    fn new(case: &str, port: u16) -> Result<Self> {
        let folder = site::run_folder()?.join(format!("docs-{case}"));
        for name in ["upper", "work", "data"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let space = Space::new(Cache::Folder(folder.join("cache")), None)?;
        let registry = Registry::start(&space, &folder.join("registry"), port)?;
        let hosts = format!("server = \"http://{}\"\n", registry.address);
        let layers = format!(
            "lowerdir=/etc,upperdir={},workdir={}",
            folder.join("upper").display(),
            folder.join("work").display()
        );
        space.inside(move || {
            mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(layers.as_str()))?;
            fs::create_dir_all("/etc/containerd/certs.d/_default")?;
            Ok(fs::write("/etc/containerd/certs.d/_default/hosts.toml", hosts)?)
        })?;
        Ok(Self { space, folder, _registry: registry })
    }

    fn types(&self, lines: &str) -> Result<String> {
        let wisp = site::binary("wisp")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", wisp.parent().context("a folder of programs")?.display());
        let mut shell = self.space.command("sh");
        shell.args(["-ec", &format!("cd {}\n{lines}", self.folder.display())]);
        shell.env("PATH", path).env("XDG_DATA_HOME", &self.folder).env_remove("CARGO_TARGET_DIR");
        // A first build of Cargo's takes its time on a busy machine.
        process::run(&mut shell, 8 * LIMIT)?.success().with_context(|| lines.to_owned())
    }
}

/// The lines of a page's blocks of shell, up to a heading.
fn typed(page: &str, end: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(site::checkout().join("docs").join(page))?;
    let text = text.split(end).next().unwrap_or_default();
    let blocks = text.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    Ok(blocks.flat_map(str::lines).map(str::to_owned).collect())
}

fn the_quick_start_goes_as_written_up_to_the_node() -> Outcome {
    let person = Person::new("quick-start", 5131)?;
    let lines = typed("quick-start.md", "## Give a node Wisp")?;
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
    let (images, commands) = (typed("images.md", "## Registries")?, typed("cli.md", "## Exit codes")?);
    let mut ran = 0;
    for line in images.iter().chain(&commands).filter(|line| line.starts_with("wisp ")) {
        if !ELSEWHERE.iter().any(|word| line.contains(word)) {
            // The guest takes its first argument for a verb, and has none of the page's.
            person.types(&line.replace("app.wasm --verbose", "app.wasm hello"))?;
            ran += 1;
        }
    }
    ensure!(ran >= 17, "{ran} commands were found");
    Ok(())
}
