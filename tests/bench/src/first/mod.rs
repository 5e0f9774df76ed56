//! Programs that this node has never seen, and has to compile first.

mod alone;
mod burst;

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use wisp_tests::cri::config::SHIM;
use wisp_tests::cri::node::Node;
use wisp_tests::site;
use wisp_tests::space::Cache;

use crate::bed;
use crate::figure::Figure;

/// Measures it all on one containerd, whose cache of compiled code is emptied again and again.
///
/// # Errors
/// What did not start.
pub(crate) fn measure() -> Result<Vec<Figure>> {
    let node = Uncached::start()?;
    let mut figures = alone::measure(&node)?;
    figures.extend(burst::measure(&node)?);
    Ok(figures)
}

/// A node, and its cache of compiled code.
struct Uncached {
    node: Node,
    cache: PathBuf,
}

impl Uncached {
    fn start() -> Result<Self> {
        let cache = site::run_folder()?.join("cache-of-first");
        fs::create_dir_all(&cache)?;
        Ok(Self { node: bed::start_with(Some(Cache::Folder(cache.clone())))?.under(SHIM)?, cache })
    }

    /// Forgets all compiled code.
    fn forget(&self) -> Result<()> {
        for entry in fs::read_dir(&self.cache)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}
