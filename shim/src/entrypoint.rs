//! Which kind of program a container runs, told by the first bytes of its entrypoint.
//!
//! The entrypoint is looked up as the container will see it: in its root file system and its bind mounts, by the spec's
//! working directory and `PATH`. Nothing the image says can make the lookup leave them: each step opens one path without
//! symbolic links (`openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`), and links are followed here.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2, readlinkat};

use crate::spec::Spec;

/// What the entrypoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// ELF, or a script with `#!`: runs on the node's processor.
    Native,
    /// A Wasm binary; or something that no runtime can run, about which `wisp-runtime` has the better sentence.
    Wasm,
}

/// The `PATH` that is searched where the spec has none: runc's.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

/// Looks at the entrypoint of the container in `bundle`, whose root file system is mounted.
pub(crate) fn kind(bundle: &Path, spec: &Spec) -> Kind {
    let Some(program) = spec.process.args.first() else { return Kind::Wasm };
    let Ok(view) = View::new(bundle, spec) else { return Kind::Wasm };
    let program = program.split_once('#').map_or(program.as_str(), |(file, _export)| file);
    match candidates(program, spec).iter().find_map(|path| view.magic(path).ok()) {
        Some(magic) if magic.starts_with(b"\x7fELF") || magic.starts_with(b"#!") => Kind::Native,
        _ => Kind::Wasm,
    }
}

/// The paths at which a program may be, in the order in which they are tried.
fn candidates(program: &str, spec: &Spec) -> Vec<PathBuf> {
    if program.contains('/') {
        return vec![Path::new("/").join(&spec.process.cwd).join(program)];
    }
    let path = spec.process.env.iter().rev().find_map(|variable| variable.strip_prefix("PATH="));
    let folders = path.unwrap_or(DEFAULT_PATH).split(':').filter(|folder| !folder.is_empty());
    folders.map(|folder| Path::new("/").join(&spec.process.cwd).join(folder).join(program)).collect()
}

/// The files that a container will see.
struct View {
    root: OwnedFd,
    /// Bind mounts: where in the container, and what of the node; later ones cover earlier ones.
    binds: Vec<(PathBuf, PathBuf)>,
}

impl View {
    fn new(bundle: &Path, spec: &Spec) -> io::Result<Self> {
        let root = open(
            bundle.join(&spec.root.path),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let binds = spec.mounts.iter().filter(|mount| mount.is_bind());
        let binds = binds.map(|mount| (mount.destination.clone(), bundle.join(&mount.source))).collect();
        Ok(Self { root, binds })
    }

    /// The first four bytes of the regular file at an absolute path.
    fn magic(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.resolve(path)?;
        if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Opened only now that it is known to be a plain file: opening a device or fifo has effects.
        let file = File::open(format!("/proc/self/fd/{}", found.as_fd().as_raw_fd()))?;
        let mut magic = Vec::with_capacity(4);
        file.take(4).read_to_end(&mut magic)?;
        Ok(magic)
    }

    /// Finds a file, following links inside the container.
    fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut at = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = components(path);
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let file = self.open(&next)?;
            if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Symlink {
                at = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let target = PathBuf::from(OsString::from_vec(readlinkat(&file, "", Vec::new())?.into_bytes()));
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            let mut followed = components(&target);
            followed.append(&mut rest);
            rest = followed;
        }
        self.open(&at)
    }

    /// Opens a path none of whose folders is a link.
    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        let mount = self.binds.iter().rev().find_map(|(destination, source)| {
            let inside = path.strip_prefix(destination).ok()?;
            Some((source, inside))
        });
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let in_root = |path: &Path| {
            let path = path.strip_prefix("/").unwrap_or(path);
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            // With O_PATH and O_NOFOLLOW a link at the end is opened as itself, but NO_SYMLINKS refuses even that: the
            // folder is opened first, the name in it second.
            match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => {
                    let folder =
                        openat2(&self.root, parent, flags | OFlags::DIRECTORY, Mode::empty(), beneath)?;
                    rustix::fs::openat(&folder, name, flags, Mode::empty())
                }
                _ => rustix::fs::openat(&self.root, path, flags, Mode::empty()),
            }
        };
        Ok(match mount {
            None => in_root(path)?,
            // The source itself is the node's and trusted; what is in it is not.
            Some((source, inside)) if inside.as_os_str().is_empty() => {
                rustix::fs::openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?
            }
            Some((source, inside)) => {
                let source = open(source, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
                View { root: source, binds: Vec::new() }.open(inside)?
            }
        })
    }
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const WASM: &[u8] = b"\0asm\x01\0\0\0";
    const ELF: &[u8] = b"\x7fELF\x02";

    struct Bundle(tempfile::TempDir);

    impl Bundle {
        fn new(files: &[(&str, &[u8])]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("rootfs")).unwrap();
            let bundle = Self(dir);
            for (name, bytes) in files {
                let path = bundle.path(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            bundle
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn link(&self, target: &str, name: &str) {
            fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            symlink(target, self.path(name)).unwrap();
        }

        fn kind(&self, process: &str, mounts: &str) -> Kind {
            let json = format!(r#"{{"root":{{"path":"rootfs"}},"process":{process},"mounts":{mounts}}}"#);
            kind(self.0.path(), &serde_json::from_str(&json).unwrap())
        }

        fn kind_of(&self, program: &str) -> Kind {
            self.kind(&format!(r#"{{"args":["{program}"],"cwd":"/"}}"#), "[]")
        }
    }

    #[test]
    fn the_bytes_decide_and_not_the_name() {
        let bundle = Bundle::new(&[
            ("rootfs/app.wasm", ELF),
            ("rootfs/app", WASM),
            ("rootfs/run.sh", b"#!/bin/sh\n"),
            ("rootfs/x", b""),
        ]);
        assert_eq!(bundle.kind_of("/app.wasm"), Kind::Native);
        assert_eq!(bundle.kind_of("/app"), Kind::Wasm);
        assert_eq!(bundle.kind_of("/run.sh"), Kind::Native);
        assert_eq!(bundle.kind_of("/x"), Kind::Wasm);
        assert_eq!(bundle.kind_of("/missing"), Kind::Wasm);
        assert_eq!(bundle.kind_of("/app#add"), Kind::Wasm);
    }

    #[test]
    fn programs_are_found_by_path_and_working_directory() {
        let bundle = Bundle::new(&[
            ("rootfs/opt/bin/tool", ELF),
            ("rootfs/work/tool", ELF),
            ("rootfs/bin/tool", WASM),
        ]);
        let kind = |process: &str| bundle.kind(process, "[]");
        assert_eq!(kind(r#"{"args":["tool"],"cwd":"/","env":["PATH=/opt/bin:/bin"]}"#), Kind::Native);
        assert_eq!(kind(r#"{"args":["tool"],"cwd":"/","env":["PATH=/none:/bin"]}"#), Kind::Wasm);
        assert_eq!(kind(r#"{"args":["tool"],"cwd":"/"}"#), Kind::Wasm);
        assert_eq!(kind(r#"{"args":["./tool"],"cwd":"/work"}"#), Kind::Native);
    }

    #[test]
    fn links_stay_inside_the_container() {
        let bundle = Bundle::new(&[("rootfs/usr/bin/real", ELF), ("outside", ELF)]);
        bundle.link("/usr/bin", "rootfs/bin");
        bundle.link("real", "rootfs/usr/bin/sh");
        bundle.link("../../outside", "rootfs/escape");
        bundle.link(bundle.path("outside").to_str().unwrap(), "rootfs/absolute");
        bundle.link("loop", "rootfs/loop");
        assert_eq!(bundle.kind_of("/bin/sh"), Kind::Native);
        assert_eq!(bundle.kind_of("/../../usr/bin/real"), Kind::Native);
        for program in ["/escape", "/absolute", "/loop"] {
            assert_eq!(bundle.kind_of(program), Kind::Wasm, "{program}");
        }
    }

    #[test]
    fn programs_on_bind_mounts_are_found() {
        let bundle = Bundle::new(&[
            ("volume/tool", ELF),
            ("file", ELF),
            ("rootfs/init", WASM),
            ("rootfs/data/tool", WASM),
        ]);
        bundle.link("/data/tool", "rootfs/tool");
        let mounts = r#"[{"destination":"/data","type":"bind","source":"volume"},
            {"destination":"/init","type":"none","options":["rbind","ro"],"source":"file"}]"#;
        for program in ["/data/tool", "/tool", "/init"] {
            let process = format!(r#"{{"args":["{program}"],"cwd":"/"}}"#);
            assert_eq!(bundle.kind(&process, mounts), Kind::Native, "{program}");
        }
    }
}
