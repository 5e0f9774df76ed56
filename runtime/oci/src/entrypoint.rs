//! What the entrypoint names: a file of the container, told apart by its bytes and by nothing else.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Mount, Process, Spec};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

/// Where a program is looked for when the environment has no `PATH`, as runc does.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The first bytes of Wasm: `\0asm`; a version or layer follows, which the compiler judges.
const WASM: &[u8] = b"\0asm";
/// How many files a message about a missing entrypoint names.
const NAMED: usize = 5;

/// The file that the entrypoint names.
#[derive(Debug)]
pub struct Entrypoint {
    /// Its path in the container.
    pub path: PathBuf,
    /// The export after the `#` of `file.wasm#export`.
    pub export: Option<String>,
    /// The file, open for reading.
    pub file: File,
    /// What its first bytes say.
    pub kind: Kind,
}

/// What a file is by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Wasm module or component.
    Wasm,
    /// An ELF binary or a script with `#!`.
    Native,
}

/// A container's files, before its mounts are made or from outside while it runs.
#[derive(Debug)]
pub struct Files<'a> {
    root: OwnedFd,
    /// The bind mounts that would cover parts of the root.
    mounts: Vec<(&'a Path, &'a Path)>,
}

impl<'a> Files<'a> {
    /// The files that a container made of `spec` over `rootfs` will have.
    ///
    /// # Errors
    /// If the root cannot be opened.
    pub fn of_bundle(rootfs: &Path, spec: &'a Spec) -> Result<Self> {
        let mounts = spec.mounts().iter().flatten().filter_map(bind).collect();
        Ok(Self { root: directory(rootfs)?, mounts })
    }

    /// The files that process `pid` sees.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn of_process(pid: i32) -> Result<Self> {
        Ok(Self { root: directory(Path::new(&format!("/proc/{pid}/root")))?, mounts: Vec::new() })
    }

    /// Opens the regular file at `path`, an absolute path in the container; links lead nowhere outside of it.
    fn open(&self, path: &Path) -> io::Result<File> {
        let covering = self.mounts.iter().rev().filter(|(destination, _)| path.starts_with(destination));
        let Some((destination, source)) =
            covering.max_by_key(|(destination, _)| destination.as_os_str().len())
        else {
            return regular(&self.root, path);
        };
        match path.strip_prefix(destination) {
            Ok(rest) if rest.as_os_str().is_empty() => {
                let parent = source.parent().unwrap_or(Path::new("/"));
                let name = source.file_name().ok_or(ErrorKind::InvalidInput)?;
                regular(&open_directory(parent)?, Path::new(name))
            }
            Ok(rest) => regular(&open_directory(source)?, rest),
            Err(_) => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Wasm files that lie at the container's root, for a message.
    fn wasm_at_root(&self) -> Vec<String> {
        let Ok(list) = rustix::fs::openat(&self.root, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .and_then(rustix::fs::Dir::new)
        else {
            return Vec::new();
        };
        let names = list.filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned));
        let mut names: Vec<_> =
            names.filter(|name| name.ends_with(".wasm")).map(|name| format!("/{name}")).collect();
        names.sort();
        names.truncate(NAMED);
        names
    }
}

/// The program that `process` is for, among `files`.
///
/// # Errors
/// One sentence: what was asked for, what is there, what to do.
pub fn find(files: &Files<'_>, process: &Process) -> Result<Entrypoint> {
    let name = process.args().as_ref().and_then(|args| args.first()).map_or("", String::as_str);
    let (path_part, export) = match name.split_once('#') {
        Some((path, export)) => (path, Some(export.to_owned())),
        None => (name, None),
    };
    for path in candidates(path_part, process) {
        match files.open(&path) {
            Ok(file) => {
                let kind = kind(&file, &path)?;
                return Ok(Entrypoint { path, export, file, kind });
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => bail!("the entrypoint {} cannot be read: {error}", path.display()),
        }
    }
    let hint = match files.wasm_at_root().as_slice() {
        [] => String::new(),
        there => format!("; the image has {}", there.join(", ")),
    };
    bail!(
        "the entrypoint {path_part:?} was not found in the container: no such file or directory{hint}; name a Wasm file \
         of the image as its ENTRYPOINT or as the container's command"
    )
}

/// Where `name` may be: itself if it has a slash, else along `PATH` as execvp(3) does, then beside the working directory
/// and the root, because a Wasm file needs no `PATH` to be run elsewhere either.
fn candidates(name: &str, process: &Process) -> Vec<PathBuf> {
    if name.contains('/') {
        return vec![absolute(&process.cwd().join(name))];
    }
    let path = process.env().iter().flatten().find_map(|variable| variable.strip_prefix("PATH="));
    let along = path.unwrap_or(DEFAULT_PATH).split(':').filter(|dir| dir.starts_with('/')).map(PathBuf::from);
    along.chain([process.cwd().clone(), PathBuf::from("/")]).map(|dir| absolute(&dir.join(name))).collect()
}

/// A path without `.` and `..`, as if no component were a link; openat2 judges the links.
fn absolute(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn kind(file: &File, path: &Path) -> Result<Kind> {
    let mut head = [0; 4];
    let length = read_head(file, &mut head)
        .with_context(|| format!("the entrypoint {} cannot be read", path.display()))?;
    match &head[..length] {
        WASM => Ok(Kind::Wasm),
        b"\x7fELF" => Ok(Kind::Native),
        [b'#', b'!', ..] => Ok(Kind::Native),
        head => bail!(
            "the entrypoint {} is neither Wasm nor a native program: it begins with {}, expected \\0asm (Wasm), \\x7fELF or \
             #!; check that the image holds the compiled program",
            path.display(),
            if head.is_empty() {
                "nothing (the file is empty)".into()
            } else {
                format!("\"{}\"", head.escape_ascii())
            }
        ),
    }
}

fn read_head(file: &File, head: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < head.len() {
        match file.read_at(&mut head[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

fn regular(dir: &OwnedFd, path: &Path) -> io::Result<File> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    // Non-blocking, so that a pipe in the image's place of a file does not hold us up.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file =
        openat2(dir, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        FileType::Directory => Err(io::Error::other("it is a folder, not a file")),
        _ => Err(io::Error::other("it is not a regular file")),
    }
}

fn directory(path: &Path) -> Result<OwnedFd> {
    open_directory(path).with_context(|| format!("the root file system {}", path.display()))
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

fn bind(mount: &Mount) -> Option<(&Path, &Path)> {
    let bound = mount.typ().as_deref() == Some("bind")
        || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
    let source = mount.source().as_deref()?;
    (bound && source.is_absolute()).then_some((mount.destination(), source))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Bed {
        dir: tempfile::TempDir,
        spec: Spec,
    }

    impl Bed {
        fn new(mounts: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let mounts = mounts.replace("DIR", dir.path().to_str().unwrap());
            let spec =
                serde_json::from_str(&format!("{{\"ociVersion\":\"1.0.2\",\"mounts\":{mounts}}}")).unwrap();
            fs::create_dir(dir.path().join("rootfs")).unwrap();
            Self { dir, spec }
        }

        fn write(&self, path: &str, bytes: &[u8]) {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }

        fn find(&self, arg: &str, env: &str) -> Result<Entrypoint, String> {
            let process =
                format!(r#"{{"cwd":"/work","args":["{arg}"],"env":["{env}"],"user":{{"uid":0,"gid":0}}}}"#);
            let files = Files::of_bundle(&self.dir.path().join("rootfs"), &self.spec).unwrap();
            find(&files, &serde_json::from_str(&process).unwrap()).map_err(|error| format!("{error:#}"))
        }
    }

    #[test]
    fn a_program_is_told_by_its_bytes() {
        let bed = Bed::new("[]");
        bed.write("rootfs/app", b"\0asm\x01\0\0\0");
        bed.write("rootfs/tool.wasm", b"\x7fELF\x02");
        bed.write("rootfs/script", b"#!/bin/sh");
        bed.write("rootfs/text", b"hello");
        bed.write("rootfs/empty", b"");
        assert_eq!(bed.find("/app", "A=1").unwrap().kind, Kind::Wasm);
        assert_eq!(bed.find("/tool.wasm", "A=1").unwrap().kind, Kind::Native);
        assert_eq!(bed.find("/script", "A=1").unwrap().kind, Kind::Native);
        assert!(bed.find("/text", "A=1").unwrap_err().contains("it begins with \"hell\", expected \\0asm"));
        assert!(bed.find("/empty", "A=1").unwrap_err().contains("the file is empty"));
    }

    #[test]
    fn a_bare_name_is_found_along_path_and_then_at_the_root() {
        let bed = Bed::new("[]");
        bed.write("rootfs/opt/app.wasm", b"\0asm");
        bed.write("rootfs/other.wasm", b"\0asm");
        bed.write("rootfs/work/mine.wasm", b"\0asm");
        let path = |name| bed.find(name, "PATH=/bin:/opt").unwrap().path;
        assert_eq!(path("app.wasm"), Path::new("/opt/app.wasm"));
        assert_eq!(path("other.wasm"), Path::new("/other.wasm"));
        assert_eq!(path("mine.wasm"), Path::new("/work/mine.wasm"));
        assert_eq!(path("./mine.wasm"), Path::new("/work/mine.wasm"));
    }

    #[test]
    fn an_export_follows_the_first_hash() {
        let bed = Bed::new("[]");
        bed.write("rootfs/app.wasm", b"\0asm");
        let found = bed.find("/app.wasm#ns:pkg/iface.add", "A=1").unwrap();
        assert_eq!(
            (found.path.to_str(), found.export.as_deref()),
            (Some("/app.wasm"), Some("ns:pkg/iface.add"))
        );
    }

    #[test]
    fn a_missing_entrypoint_is_told_with_what_is_there() {
        let bed = Bed::new("[]");
        bed.write("rootfs/app.wasm", b"\0asm");
        let error = bed.find("/nope.wasm", "A=1").unwrap_err();
        assert!(
            error.contains("\"/nope.wasm\" was not found") && error.contains("the image has /app.wasm"),
            "{error}"
        );
    }

    #[test]
    fn a_link_leads_nowhere_outside_the_container() {
        let bed = Bed::new("[]");
        bed.write("secret.wasm", b"\0asm");
        bed.write("rootfs/real.wasm", b"\0asm");
        let target = bed.dir.path().join("secret.wasm");
        std::os::unix::fs::symlink(target, bed.dir.path().join("rootfs/out.wasm")).unwrap();
        std::os::unix::fs::symlink("/real.wasm", bed.dir.path().join("rootfs/in.wasm")).unwrap();
        assert!(bed.find("/out.wasm", "A=1").is_err());
        assert!(bed.find("/in.wasm", "A=1").is_ok());
        assert!(bed.find("/../secret.wasm", "A=1").is_err());
    }

    #[test]
    fn a_program_in_a_volume_is_found_behind_its_mount() {
        let bed = Bed::new(
            r#"[{"destination":"/vol","type":"bind","source":"DIR/data","options":["rbind"]},
                {"destination":"/one.wasm","type":"bind","source":"DIR/data/app.wasm","options":["bind"]}]"#,
        );
        bed.write("data/app.wasm", b"\0asm");
        assert!(bed.find("/vol/app.wasm", "A=1").is_ok());
        assert!(bed.find("/one.wasm", "A=1").is_ok());
        assert!(bed.find("/vol/none.wasm", "A=1").is_err());
    }

    #[test]
    fn a_pipe_in_place_of_a_program_does_not_hold_us_up() {
        let bed = Bed::new("[]");
        nix::unistd::mkfifo(&bed.dir.path().join("rootfs/app.wasm"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(bed.find("/app.wasm", "A=1").unwrap_err().contains("not a regular file"));
    }
}
