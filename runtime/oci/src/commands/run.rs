//! `run`: `create`, `start`, and in the foreground the wait and the `delete`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::args;

/// Runs a container; its exit code is the command's.
pub(super) fn run(root: &Path, args: &args::Run) -> Result<ExitCode> {
    let container = super::create::run(root, &args.create)?;
    let id = &args.create.id;
    let delete = args::Delete { force: true, id: id.clone() };
    if let Err(error) = super::start::run(root, id) {
        super::delete::run(root, &delete)?;
        return Err(error);
    }
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let code = super::wait(container.record.pid)?;
    super::delete::run(root, &delete)?;
    Ok(code)
}
