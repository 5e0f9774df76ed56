//! Which file of a container its entrypoint names, and what kind of program it is: told by its bytes and by nothing else.
//!
//! The shim asks this before a container is made, to choose its runtime; the runtime asks it again, to load the program.
//! Both ask here, so that they never mean two different files.

mod files;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

pub use files::Files;

/// Where a program is looked for when the environment has no `PATH`, as runc does.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
    /// A Wasm module or component, which a compiler judges further.
    Wasm,
    /// An ELF binary or a script with `#!`.
    Native,
}

impl Kind {
    /// The kind of a file that begins with these bytes.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0, b'a', b's', b'm', ..] => Some(Self::Wasm),
            [0x7f, b'E', b'L', b'F', ..] | [b'#', b'!', ..] => Some(Self::Native),
            _ => None,
        }
    }
}

/// Why there is no program. Each is one sentence: what was asked for, what is there, what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No file of this name.
    #[error(
        "the entrypoint {name:?} was not found in the container: no such file or directory{hint}; name a Wasm file of the \
         image as its ENTRYPOINT or as the container's command"
    )]
    NotFound {
        /// The name.
        name: String,
        /// The Wasm files that there are.
        hint: String,
    },
    /// A file that cannot be read, or something that is no file.
    #[error("the entrypoint {path} cannot be read: {why}")]
    Unreadable {
        /// Its path in the container.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// A file that is no program.
    #[error(
        "the entrypoint {path} is neither Wasm nor a native program: it begins with {head}, expected \\0asm (Wasm), \
         \\x7fELF or #!; check that the image holds the compiled program"
    )]
    NoProgram {
        /// Its path in the container.
        path: PathBuf,
        /// Its first bytes.
        head: String,
    },
}

/// Finds the program that a process with this first argument, working directory and environment is for.
///
/// # Errors
/// [`Error`], in words for a person.
pub fn find(files: &Files, name: &str, cwd: &Path, env: &[String]) -> Result<Entrypoint, Error> {
    let (name, export) = split(name);
    let export = export.map(str::to_owned);
    for path in candidates(name, cwd, env) {
        match files.open(&path) {
            Ok(file) => {
                let kind = kind(&file, &path)?;
                return Ok(Entrypoint { path, export, file, kind });
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(why) => return Err(Error::Unreadable { path, why }),
        }
    }
    let hint = match files.wasm_at_root().as_slice() {
        [] => String::new(),
        there => format!("; the image has {}", there.join(", ")),
    };
    Err(Error::NotFound { name: name.into(), hint })
}

/// An entrypoint's file and the export of it that is named: `file.wasm#export`.
#[must_use]
pub fn split(entrypoint: &str) -> (&str, Option<&str>) {
    match entrypoint.split_once('#') {
        Some((name, export)) => (name, Some(export)),
        None => (entrypoint, None),
    }
}

/// Where `name` may be: itself if it has a slash, else along `PATH` as execvp(3) looks, then beside the working directory and
/// the root, because a Wasm file needs no `PATH` to be run elsewhere either.
fn candidates(name: &str, cwd: &Path, env: &[String]) -> Vec<PathBuf> {
    if name.contains('/') {
        return vec![absolute(&cwd.join(name))];
    }
    // Of a variable that is there twice the last counts, as for a program that is given it.
    let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH="));
    let along = path.unwrap_or(DEFAULT_PATH).split(':').filter(|dir| !dir.is_empty()).map(Path::new);
    along.chain([cwd, Path::new("/")]).map(|dir| absolute(&cwd.join(dir).join(name))).collect()
}

/// A path from the root without `.` and `..`, as if no component were a link.
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

fn kind(file: &File, path: &Path) -> Result<Kind, Error> {
    let mut head = [0; 4];
    let mut length = 0;
    while length < head.len() {
        match file.read_at(&mut head[length..], length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(why) => return Err(Error::Unreadable { path: path.into(), why }),
        }
    }
    let head = &head[..length];
    Kind::of(head).ok_or_else(|| Error::NoProgram {
        path: path.into(),
        head: match head {
            [] => "nothing (the file is empty)".into(),
            head => format!("\"{}\"", head.escape_ascii()),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Bed {
        dir: tempfile::TempDir,
        binds: Vec<(&'static str, &'static str)>,
    }

    impl Bed {
        fn new(binds: &[(&'static str, &'static str)], files: &[(&str, &[u8])]) -> Self {
            let bed = Self { dir: tempfile::tempdir().unwrap(), binds: binds.to_vec() };
            fs::create_dir(bed.path("rootfs")).unwrap();
            for (path, bytes) in files {
                fs::create_dir_all(bed.path(path).parent().unwrap()).unwrap();
                fs::write(bed.path(path), bytes).unwrap();
            }
            bed
        }

        fn path(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn link(&self, target: &str, path: &str) {
            symlink(target, self.path(path)).unwrap();
        }

        fn find(&self, name: &str) -> Result<Entrypoint, String> {
            let binds = self.binds.iter().map(|(to, from)| (PathBuf::from(to), self.path(from))).collect();
            let files = Files::with_binds(&self.path("rootfs"), binds).unwrap();
            find(&files, name, Path::new("/here"), &["PATH=/bin:/opt".into()])
                .map_err(|error| error.to_string())
        }

        fn found(&self, name: &str) -> PathBuf {
            self.find(name).unwrap().path
        }
    }

    const WASM: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn a_program_is_told_by_its_bytes() {
        let bed = Bed::new(
            &[],
            &[
                ("rootfs/app", WASM),
                ("rootfs/tool.wasm", b"\x7fELF\x02"),
                ("rootfs/script", b"#!/bin/sh"),
                ("rootfs/text", b"hello"),
                ("rootfs/empty", b""),
            ],
        );
        assert_eq!(bed.find("/app").unwrap().kind, Kind::Wasm);
        assert_eq!(bed.find("/tool.wasm").unwrap().kind, Kind::Native);
        assert_eq!(bed.find("/script").unwrap().kind, Kind::Native);
        assert!(bed.find("/text").unwrap_err().contains("it begins with \"hell\", expected \\0asm"));
        assert!(bed.find("/empty").unwrap_err().contains("the file is empty"));
    }

    #[test]
    fn a_bare_name_is_found_along_path_and_then_here_and_at_the_root() {
        let bed = Bed::new(
            &[],
            &[("rootfs/opt/app.wasm", WASM), ("rootfs/other.wasm", WASM), ("rootfs/here/mine.wasm", WASM)],
        );
        assert_eq!(bed.found("app.wasm"), Path::new("/opt/app.wasm"));
        assert_eq!(bed.found("other.wasm"), Path::new("/other.wasm"));
        assert_eq!(bed.found("mine.wasm"), Path::new("/here/mine.wasm"));
        assert_eq!(bed.found("./mine.wasm"), Path::new("/here/mine.wasm"));
    }

    #[test]
    fn an_export_follows_the_first_hash() {
        let found = Bed::new(&[], &[("rootfs/app.wasm", WASM)]).find("/app.wasm#ns:pkg/iface.add").unwrap();
        assert_eq!(
            (found.path.to_str(), found.export.as_deref()),
            (Some("/app.wasm"), Some("ns:pkg/iface.add"))
        );
    }

    #[test]
    fn a_missing_entrypoint_is_told_with_what_is_there() {
        let error = Bed::new(&[], &[("rootfs/app.wasm", WASM)]).find("/nope.wasm").unwrap_err();
        assert!(
            error.contains("\"/nope.wasm\" was not found") && error.contains("the image has /app.wasm"),
            "{error}"
        );
    }

    #[test]
    fn a_link_leads_nowhere_outside_the_container() {
        let bed = Bed::new(&[], &[("secret.wasm", WASM), ("rootfs/real.wasm", WASM)]);
        bed.link(bed.path("secret.wasm").to_str().unwrap(), "rootfs/out.wasm");
        bed.link("../../../../../secret.wasm", "rootfs/up.wasm");
        bed.link("/real.wasm", "rootfs/in.wasm");
        bed.link("loop.wasm", "rootfs/loop.wasm");
        bed.link("..", "rootfs/parent");
        for name in ["/out.wasm", "/up.wasm", "/../secret.wasm", "/loop.wasm", "/parent/secret.wasm"] {
            bed.find(name).unwrap_err();
        }
        bed.find("/in.wasm").unwrap();
    }

    #[test]
    fn a_program_in_a_volume_is_found_behind_its_mount_and_through_links_into_it() {
        let bed = Bed::new(
            &[("/vol", "data"), ("/one.wasm", "data/app.wasm"), ("/vol/deep", "deep")],
            &[("data/app.wasm", WASM), ("deep/app.wasm", b"\x7fELF"), ("rootfs/vol/hidden.wasm", WASM)],
        );
        bed.link("/vol/app.wasm", "rootfs/linked.wasm");
        bed.link("/etc/passwd", "data/out.wasm");
        assert_eq!(bed.find("/vol/deep/app.wasm").unwrap().kind, Kind::Native);
        for name in ["/vol/app.wasm", "/one.wasm", "/linked.wasm"] {
            assert_eq!(bed.find(name).unwrap().kind, Kind::Wasm, "{name}");
        }
        for name in ["/vol/none.wasm", "/vol/hidden.wasm", "/vol/out.wasm"] {
            bed.find(name).unwrap_err();
        }
    }

    #[test]
    fn what_is_no_file_is_refused_and_does_not_hold_us_up() {
        let bed = Bed::new(&[], &[("rootfs/folder/x", b"")]);
        nix::unistd::mkfifo(&bed.path("rootfs/pipe.wasm"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(bed.find("/pipe.wasm").unwrap_err().contains("not a regular file"));
        assert!(bed.find("/folder").unwrap_err().contains("a folder, not a file"));
    }
}
