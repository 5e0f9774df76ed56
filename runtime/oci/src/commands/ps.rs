//! `ps`: the processes of a container, by its cgroup.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::args::{self, ListFormat};
use crate::state::Container;

/// Lists the processes of a container, by the node's pids.
pub(super) fn run(root: &Path, args: &args::Ps) -> Result<()> {
    let mut pids = Container::load(root, &args.id)?.cgroup()?.pids();
    pids.sort_unstable();
    if args.format == ListFormat::Json {
        return super::print(&format!("{}\n", serde_json::to_string(&pids)?));
    }
    let options = if args.ps_options.is_empty() { &["-ef".to_owned()][..] } else { &args.ps_options };
    let output = Command::new("ps").args(options).output().context("ps(1) cannot be run")?;
    ensure!(output.status.success(), "ps: {}", String::from_utf8_lossy(&output.stderr).trim());
    super::print(&of_container(&String::from_utf8_lossy(&output.stdout), &pids)?)
}

/// The header of ps's table and the lines whose PID is one of these.
fn of_container(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|name| name == "PID");
    let column = column.context("ps(1) prints no column PID with these options")?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    Ok(std::iter::once(header).chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines_are_kept() {
        let table = "UID   PID  CMD\nroot    1 init\nroot   12 app.wasm\n";
        assert_eq!(of_container(table, &[12]).unwrap(), "UID   PID  CMD\nroot   12 app.wasm\n");
        assert!(of_container("CMD\ninit\n", &[1]).is_err());
    }
}
