//! Where the binaries of one installation find each other: beside the one that asks (`target/release/`), or in
//! `../libexec/wisp/` from it (`make install`).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Finds the binary called `name` of the installation that this process belongs to.
///
/// # Errors
/// One sentence that names the places that were searched.
pub fn find(name: &str) -> io::Result<PathBuf> {
    let exe = undeleted(std::fs::read_link("/proc/self/exe")?);
    let places = places(&exe, name);
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let searched = places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ");
        io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "{name} was expected at {searched} and is not there; install Wisp again (`make install`)"
            ),
        )
    })
}

/// The kernel adds " (deleted)" to the link of a binary that was replaced while it runs.
fn undeleted(exe: PathBuf) -> PathBuf {
    match exe.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(path) => PathBuf::from(OsString::from_vec(path.to_vec())),
        None => exe,
    }
}

fn places(exe: &Path, name: &str) -> Vec<PathBuf> {
    let dir = exe.parent().unwrap_or(Path::new("/"));
    vec![dir.join(name), dir.join("../libexec/wisp").join(name)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_binary_still_knows_where_it_was_installed() {
        let exe = undeleted(PathBuf::from("/usr/local/bin/wisp-runtime (deleted)"));
        assert_eq!(exe, Path::new("/usr/local/bin/wisp-runtime"));
        assert_eq!(places(&exe, "wisp-guest")[1], Path::new("/usr/local/bin/../libexec/wisp/wisp-guest"));
    }
}
