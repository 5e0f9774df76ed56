//! The cache of compiled code on a node.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use wisp_tests::bed::{LIMIT, eventually};
use wisp_tests::bundle::Bundle;
use wisp_tests::image::digest_of;
use wisp_tests::process::Finished;
use wisp_tests::space::{Cache, Space};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, site};

pub(crate) const CASES: &[Case] = cases![Once:
    the_second_start_uses_what_the_first_compiled,
    only_root_reads_and_writes_the_cache,
    an_altered_file_is_compiled_again_and_reported,
    a_truncated_file_is_compiled_again_and_reported,
    an_entry_is_never_written_in_place,
    the_oldest_entries_go_when_the_cache_is_full,
    the_code_of_one_program_is_mapped_by_all_its_guests,
    a_program_of_an_overlay_is_read_again_only_when_it_changed,
];

/// A node with an empty cache of its own.
struct Node {
    space: Space,
    cache: PathBuf,
}

impl Node {
    fn new(name: &str, config: Option<&str>) -> Result<Self> {
        let cache = site::run_folder()?.join(format!("cache-{name}"));
        Ok(Self { space: Space::new(Cache::Folder(cache.clone()), config.map(str::to_owned))?, cache })
    }

    fn hello(&self) -> Result<Finished> {
        let ended = Bundle::with_space(&["/rust-0.1.wasm", "hello"], self.space.clone())?.run()?;
        ensure!(ended.code == 0 && ended.stdout == "hello from Rust, WASI 0.1\n", "{ended:?}");
        Ok(ended)
    }

    /// The files of compiled code.
    fn code(&self) -> Result<Vec<PathBuf>> {
        let all = fs::read_dir(&self.cache)?.flatten().map(|entry| entry.path());
        Ok(all.filter(|path| path.extension().is_some_and(|extension| extension == "code")).collect())
    }

    fn only_code(&self) -> Result<PathBuf> {
        let code = self.code()?;
        ensure!(code.len() == 1, "{code:?}");
        code.into_iter().next().context("no compiled code")
    }
}

fn identity(path: &Path) -> Result<(u64, i64, i64)> {
    let meta = fs::metadata(path)?;
    Ok((meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

fn the_second_start_uses_what_the_first_compiled() -> Outcome {
    let node = Node::new("twice", None)?;
    node.hello()?;
    let before = identity(&node.only_code()?)?;
    node.hello()?;
    ensure!(identity(&node.only_code()?)? == before, "compiled again");
    Ok(())
}

fn only_root_reads_and_writes_the_cache() -> Outcome {
    let node = Node::new("rights", None)?;
    node.hello()?;
    for entry in fs::read_dir(&node.cache)?.flatten() {
        let meta = entry.metadata()?;
        ensure!(meta.uid() == 0, "{} is not root's", entry.path().display());
        ensure!(meta.permissions().mode() & 0o022 == 0, "{} is writable by others", entry.path().display());
    }
    Ok(())
}

/// The guest runs, the entry is a new one, and somebody is told.
fn replaced(name: &str, spoil: impl Fn(&Path) -> Result<()>) -> Outcome {
    let node = Node::new(name, None)?;
    node.hello()?;
    let code = node.only_code()?;
    spoil(&code)?;
    let spoilt = identity(&code)?;
    let told = node.hello()?.stderr;
    ensure!(identity(&node.only_code()?)? != spoilt, "the spoilt file is still there");
    ensure!(told.contains("compiled again"), "not reported: {told:?}");
    node.hello()?;
    Ok(())
}

fn an_altered_file_is_compiled_again_and_reported() -> Outcome {
    replaced("altered", |code| {
        let mut bytes = fs::read(code)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::remove_file(code)?;
        Ok(fs::write(code, bytes)?)
    })
}

fn a_truncated_file_is_compiled_again_and_reported() -> Outcome {
    replaced("truncated", |code| {
        let bytes = fs::read(code)?;
        Ok(fs::write(code, &bytes[..bytes.len() / 3])?)
    })
}

fn an_entry_is_never_written_in_place() -> Outcome {
    let node = Node::new("in-place", None)?;
    node.hello()?;
    let code = node.only_code()?;
    let mapped = fs::File::open(&code)?;
    let before = fs::read(&code)?;
    fs::remove_file(&code)?;
    node.hello()?;
    ensure!(mapped.metadata()?.ino() != fs::metadata(&code)?.ino(), "the same file");
    let mut held = vec![0; before.len()];
    std::os::unix::fs::FileExt::read_exact_at(&mapped, &mut held, 0)?;
    ensure!(held == before, "the old file was changed");
    Ok(())
}

fn the_oldest_entries_go_when_the_cache_is_full() -> Outcome {
    let node = Node::new("full", Some("[cache]\nmax_size = \"1 MiB\"\n"))?;
    for number in 0..6 {
        let functions: String = (0..2000)
            .map(|f| {
                format!(
                    "(func (param i32) (result i32) (i32.mul (local.get 0) (i32.const {}))) ",
                    number * 7919 + f
                )
            })
            .collect();
        let bundle = Bundle::with_space(&["/module.wasm"], node.space.clone())?;
        bundle.file(
            "/module.wasm",
            &wat::parse_str(format!(
                r#"(module {functions} (func (export "_start")) (memory (export "memory") 1))"#
            ))?,
        )?;
        let ended = bundle.run()?;
        ensure!(ended.code == 0, "{ended:?}");
        let size: u64 = fs::read_dir(&node.cache)?
            .flatten()
            .map(|entry| entry.metadata().map_or(0, |meta| meta.len()))
            .sum();
        ensure!(size <= 1 << 20, "the cache of 1 MiB holds {size} bytes");
    }
    ensure!(!node.code()?.is_empty(), "the newest entry is gone too");
    Ok(())
}

fn the_code_of_one_program_is_mapped_by_all_its_guests() -> Outcome {
    let node = Node::new("mapped", None)?;
    let mut bundles = Vec::new();
    for _ in 0..2 {
        let bundle = Bundle::with_space(&["/rust-0.1.wasm", "loop"], node.space.clone())?;
        bundle.create()?;
        bundle.runtime(&["start", &bundle.id])?.success()?;
        bundle.until("looping")?;
        bundles.push(bundle);
    }
    let code = fs::metadata(node.only_code()?)?;
    for bundle in &bundles {
        let maps = fs::read_to_string(format!("/proc/{}/maps", bundle.state()?["pid"]))?;
        let inode = format!(" {} ", code.ino());
        let executable = maps.lines().find(|line| line.contains(&inode) && line.contains("r-x"));
        ensure!(executable.is_some(), "the cache's file is not mapped:\n{maps}");
    }
    Ok(())
}

fn a_program_of_an_overlay_is_read_again_only_when_it_changed() -> Outcome {
    let bundle = Bundle::new(&["/rust-0.1.wasm", "hello"])?;
    let (root, program) = (bundle.path("rootfs"), bundle.path("rootfs/rust-0.1.wasm"));
    fs::rename(&root, bundle.path("layer"))?;
    for folder in [&root, &bundle.path("changes"), &bundle.path("work")] {
        fs::create_dir(folder)?;
    }
    let of = |name: &str| bundle.path(name).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", of("layer"), of("changes"), of("work"));
    bundle.space.inside(move || {
        Ok(mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?)
    })?;
    let says = |expected: &str| {
        let ended = bundle.run()?;
        ensure!(ended.code == 0 && ended.stdout == expected, "{ended:?}");
        Ok(())
    };
    // What has just been written is not noted yet.
    let note = eventually("a digest", LIMIT, || {
        says("hello from Rust, WASI 0.1\n")?;
        noted(&bundle.space)
    })?;

    // To see that the note is what counts, and not the file, it is made to say the digest of another program, which is compiled.
    Bundle::new(&["/c.wasm"])?.run()?;
    let (other, _) = digest_of(&mut File::open(site::guest("c.wasm")?)?)?;
    bundle.space.inside(move || Ok(fs::write(note, other)?))?;
    says("hello from C, WASI 0.1\nhello\n")?;

    let content = fs::read(site::guest("rust-0.1.wasm")?)?;
    bundle.space.inside(move || Ok(fs::write(program, content)?))?;
    says("hello from Rust, WASI 0.1\n")
}

/// The one note of a program that was read.
fn noted(space: &Space) -> Result<Option<PathBuf>> {
    let note = || fs::read_dir("/run/wisp/digests").ok()?.next()?.ok();
    space.inside(move || Ok(note().map(|note| note.path())))
}
