//! What a node writes outside of a space's folders: it becomes the space's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use crate::space::Space;

/// Mount points; they stay, empty, on a machine that has none.
const FOLDERS: [&str; 3] = ["/var/lib/kubelet", "/var/lib/containerd", "/var/log"];

/// What kubelet writes for the whole machine: it finds files in their place, with what it wants in them.
const SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Mounts folders and files below `folder` over what the node in a space writes.
///
/// # Errors
/// Those of the kernel, and of making them.
pub(crate) fn claim(space: &Space, folder: &Path) -> Result<()> {
    let sources: Vec<_> = FOLDERS.iter().map(|path| folder.join(path.trim_start_matches('/'))).collect();
    for folder in FOLDERS.iter().map(Path::new).chain(sources.iter().map(PathBuf::as_path)) {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let settings = settings(&folder.join("settings"))?;
    space.inside(move || {
        let folders = FOLDERS.map(PathBuf::from);
        for (path, source) in folders.iter().zip(&sources).chain(settings.iter().map(|(to, from)| (to, from)))
        {
            mount(Some(source), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("mounting over {}", path.display()))?;
        }
        Ok(())
    })
}

/// The settings that this kernel has, and the file that stands in for each.
fn settings(folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    fs::create_dir_all(folder)?;
    let all = SETTINGS.into_iter().map(|(name, value)| (Path::new("/proc/sys").join(name), name, value));
    all.filter(|(path, ..)| path.exists())
        .map(|(path, name, value)| {
            let file = folder.join(name.replace('/', "."));
            fs::write(&file, format!("{value}\n"))?;
            Ok((path, file))
        })
        .collect()
}
