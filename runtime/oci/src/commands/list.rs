//! `list`: the containers below the root.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use crate::args::{self, ListFormat};
use crate::state::Container;

/// Lists the containers.
pub(super) fn run(root: &Path, args: &args::List) -> Result<()> {
    let containers = containers(root)?;
    if args.quiet {
        let ids: String = containers.iter().map(|container| format!("{}\n", container.record.id)).collect();
        return super::print(&ids);
    }
    if args.format == ListFormat::Json {
        let states: Vec<_> = containers.iter().map(|container| container.state(container.status())).collect();
        return super::print(&format!("{}\n", serde_json::to_string(&states)?));
    }
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = containers.iter().map(|container| {
        let state = container.state(container.status());
        [
            state.id.to_owned(),
            state.pid.to_string(),
            state.status.as_str().to_owned(),
            state.bundle.display().to_string(),
            state.created.to_owned(),
            "root".to_owned(),
        ]
    });
    super::print(&table(std::iter::once(header).chain(rows).collect()))
}

fn containers(root: &Path) -> Result<Vec<Container>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("the state folder {}", root.display())),
    };
    // A folder that is not a container's, or one whose container is being made, is passed over.
    let mut containers: Vec<_> =
        entries.filter_map(|entry| Container::load(root, entry.ok()?.file_name().to_str()?).ok()).collect();
    containers.sort_by(|a, b| a.record.id.cmp(&b.record.id));
    Ok(containers)
}

fn table<const N: usize>(rows: Vec<[String; N]>) -> String {
    let widths: Vec<usize> =
        (0..N).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_names() {
        let rows = vec![["ID".to_owned(), "PID".to_owned()], ["a-long-id".to_owned(), "1".to_owned()]];
        assert_eq!(table(rows), "ID          PID\na-long-id   1\n");
    }
}
