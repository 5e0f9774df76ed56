//! `wisp man`: the command line as pages of the manual, for packages.

use std::path::Path;

use anyhow::{Context, Result};

/// Writes `wisp.1` and a page for each command, `wisp-run.1` and so on, into a folder that is there.
///
/// # Errors
/// Those of writing, with the folder's name.
pub(crate) fn write(folder: &Path) -> Result<()> {
    clap_mangen::generate_to(crate::command_line(), folder)
        .with_context(|| format!("the manual cannot be written into {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_command_that_is_not_hidden_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        for command in crate::command_line().get_subcommands() {
            let path = folder.path().join(format!("wisp-{}.1", command.get_name()));
            assert_eq!(path.exists(), !command.is_hide_set(), "{}", path.display());
        }
        let page = fs::read_to_string(folder.path().join("wisp-run.1")).unwrap();
        assert!(page.contains("volume") && page.contains("Exit codes"), "{page}");
    }
}
