//! Where containerd is given the handler: which file, and what stands in it afterwards.
//!
//! A drop-in file is taken where containerd imports a folder and merges what it finds there: tools that write the main file anew
//! (kubeadm, EKS' nodeadm, AKS) leave it alone. Else the block goes into the file that decides, and for k3s and RKE2 into the
//! template that they make that file of.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::file::Edit;
use super::handler::{self, Handler};
use crate::node::config::{Effective, Source, V2, V3};
use crate::node::containerd::{Containerd, Version};

/// The drop-in file's name.
const DROP_IN: &str = "wisp.toml";
/// What a template of k3s and RKE2 says to get all that they would write without it.
const K3S_BASE: &str = "{{ template \"base\" . }}\n";

/// One way to give containerd the handler.
#[derive(Debug)]
pub(crate) struct Place {
    /// The file that changes.
    pub(crate) edit: Edit,
    /// What containerd would read: this main file.
    trial: Source,
    /// Whether the file that changes is one that the main file imports.
    imported: bool,
}

impl Place {
    /// Fails where containerd would not take it, or would lose something else by it.
    ///
    /// # Errors
    /// One sentence with what containerd makes of it.
    pub(crate) fn check(&self, containerd: &Containerd, before: &Effective, handler: &Handler) -> Result<()> {
        let folder = tempfile::tempdir().context("making a folder to try the configuration in")?;
        let main = folder.path().join("config.toml");
        let text = if self.imported {
            let import = folder.path().join(DROP_IN);
            std::fs::write(&import, self.edit.after.as_deref().unwrap_or_default())?;
            let replaces = self.edit.before.is_some().then_some(&*self.edit.path);
            self.trial.elsewhere(Some(&import), replaces)?
        } else if self.trial.imports().is_empty() {
            self.trial.text.clone()
        } else {
            self.trial.elsewhere(None, None)?
        };
        std::fs::write(&main, text)?;
        let after = Effective::of(containerd, &main)?;
        match after.handler(&handler.name) {
            Some(found) if handler.is(found) => {}
            Some(_) => bail!("another file sets the handler {} otherwise", handler.name),
            None => bail!("containerd would not see the handler {}", handler.name),
        }
        after.differs_only_in(before, &handler.name)
    }
}

/// The ways to give containerd the handler, the best one first.
///
/// # Errors
/// One sentence where this configuration cannot be extended.
pub(crate) fn places(
    main: &Path,
    sources: &[Source],
    version: Version,
    before: &Effective,
    handler: &Handler,
) -> Result<Vec<Place>> {
    let Some((first, imports)) = sources.split_first() else {
        return Ok(vec![new_file(main, version, before, handler)?]);
    };
    refuse(sources)?;
    let mut places = Vec::new();
    if version >= Version(2, 0, 0)
        && let Some(path) = first.imports().iter().find_map(|pattern| drop_in(pattern))
    {
        let text = handler.block("version = 3\n", V3);
        let edit = Edit::of(&path, Some(text))?;
        places.push(Place { edit, trial: first.clone(), imported: true });
    }
    if is_generated(&first.text) {
        places.push(template(first, handler)?);
    } else if let Some(import) = deciding_import(imports, version) {
        let edit = Edit::of(&import.path, Some(extended(import, sources, version, before, handler)))?;
        places.push(Place { edit, trial: first.clone(), imported: true });
    } else {
        let text = extended(first, sources, version, before, handler);
        let trial = Source::parse(&first.path, text.clone()).map_err(|error| {
            error.context(format!(
                "{} is written so that a table cannot be added; write its `plugins` as [tables]",
                first.path.display()
            ))
        })?;
        places.push(Place { edit: Edit::of(&first.path, Some(text))?, trial, imported: false });
    }
    Ok(places)
}

/// Whether a file has the block.
pub(crate) fn is_ours(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| handler::has_block(&text))
}

/// Every file that may have the block: what containerd reads, and the templates of what it reads.
pub(crate) fn candidates(main: &Path, sources: &[Source]) -> Vec<PathBuf> {
    let mut paths: Vec<_> = match sources.first() {
        Some(first) if is_generated(&first.text) => {
            sources[1..].iter().map(|source| source.path.clone()).collect()
        }
        Some(_) => sources.iter().map(|source| source.path.clone()).collect(),
        None => Vec::new(),
    };
    paths.extend(["config-v3.toml.tmpl", "config.toml.tmpl"].map(|name| main.with_file_name(name)));
    paths
}

fn refuse(sources: &[Source]) -> Result<()> {
    for source in sources {
        let path = source.path.display();
        if source.disables_cri() {
            bail!(
                "{path} disables containerd's CRI plugin, without which there are no pods; take cri out of its disabled_plugins, restart containerd, and run this again"
            );
        }
        if source.version() < 2 && !source.is_empty() {
            bail!(
                "{path} is of version 1, expected 2 or later; write what `containerd config migrate` answers into it, and run this again"
            );
        }
    }
    Ok(())
}

fn new_file(main: &Path, version: Version, before: &Effective, handler: &Handler) -> Result<Place> {
    let text = block_of_new_file(&others(&[], version, before, handler), version, handler);
    let trial = Source::parse(main, text.clone())?;
    Ok(Place { edit: Edit::of(main, Some(text))?, trial, imported: false })
}

fn block_of_new_file(others: &str, version: Version, handler: &Handler) -> String {
    if version >= Version(2, 0, 0) {
        handler.block("version = 3\n", V3)
    } else {
        handler.block(&format!("version = 2\n{others}"), V2)
    }
}

fn extended(
    source: &Source,
    all: &[Source],
    version: Version,
    before: &Effective,
    handler: &Handler,
) -> String {
    let others = others(all, version, before, handler);
    let bare = handler::without_block(&source.text);
    let is_empty = bare.parse::<toml::Table>().is_ok_and(|table| table.is_empty());
    let block = if is_empty {
        block_of_new_file(&others, version, handler)
    } else {
        handler.block(&others, source.cri())
    };
    handler::with_block(&source.text, &block)
}

/// The handlers that containerd 1.x has built in and gives up for the first one that a file names.
fn others(all: &[Source], version: Version, before: &Effective, handler: &Handler) -> String {
    if version >= Version(2, 0, 0) || all.iter().any(Source::has_foreign_handlers) {
        return String::new();
    }
    let mut handlers = before.handlers().cloned().unwrap_or_default();
    handlers.remove(&handler.name);
    for (_, built_in) in &mut handlers {
        if let toml::Value::Table(table) = built_in {
            // What is empty is the default.
            let empty = [toml::Value::from(""), 0.into(), false.into(), toml::Value::Array(Vec::new())];
            table.retain(|_, value| !empty.contains(value));
        }
    }
    nest(&["plugins", V2, "containerd", "runtimes"], handlers).to_string()
}

fn nest(keys: &[&str], table: toml::Table) -> toml::Table {
    keys.iter().rev().fold(table, |inner, key| toml::Table::from_iter([((*key).to_owned(), inner.into())]))
}

/// On 1.x, the last import that has anything of the CRI plugin, because it alone counts.
fn deciding_import(imports: &[Source], version: Version) -> Option<&Source> {
    if version >= Version(2, 0, 0) {
        return None;
    }
    imports.iter().rev().find(|source| source.has_plugin(V2))
}

/// The drop-in file for an import such as `/etc/containerd/conf.d/*.toml`.
fn drop_in(pattern: &str) -> Option<PathBuf> {
    let (folder, name) = pattern.rsplit_once('/')?;
    let fits = !folder.contains('*') && (name == "*.toml" || name == "*");
    fits.then(|| Path::new(folder).join(DROP_IN))
}

/// Whether k3s or RKE2 writes this file anew at each of their starts.
fn is_generated(text: &str) -> bool {
    text.lines().take(5).any(|line| line.starts_with("# File generated by ") && line.contains("DO NOT EDIT"))
}

fn template(rendered: &Source, handler: &Handler) -> Result<Place> {
    let name = if rendered.version() >= 3 { "config-v3.toml.tmpl" } else { "config.toml.tmpl" };
    let path = rendered.path.with_file_name(name);
    let old = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let bare = old.as_deref().map(handler::without_block).unwrap_or_default();
    let prelude = if bare.is_empty() { K3S_BASE } else { "" };
    let text = handler::with_block(&bare, &handler.block(prelude, rendered.cri()));
    // What the template will give is what it gave, and the block.
    let trial = handler::with_block(&rendered.text, &handler.block("", rendered.cri()));
    let trial = Source::parse(&rendered.path, trial)?;
    Ok(Place { edit: Edit::of(&path, Some(text))?, trial, imported: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1_7: Version = Version(1, 7, 35);
    const V2_4: Version = Version(2, 4, 2);

    fn sources(texts: &[&str]) -> Vec<Source> {
        let name = |index| format!("/none/{index}.toml");
        texts
            .iter()
            .enumerate()
            .map(|(i, text)| Source::parse(Path::new(&name(i)), (*text).into()).unwrap())
            .collect()
    }

    /// Which files would change, the best first, and the first one's new text.
    fn chosen(texts: &[&str], version: Version) -> (Vec<String>, String) {
        let handler = Handler::new("wisp", None, version).unwrap();
        let places =
            places(Path::new("/none/0.toml"), &sources(texts), version, &Effective::default(), &handler)
                .unwrap();
        let paths = places.iter().map(|place| place.edit.path.display().to_string()).collect();
        (paths, places[0].edit.after.clone().unwrap())
    }

    fn refusal(text: &str) -> String {
        let handler = Handler::new("wisp", None, V2_4).unwrap();
        format!(
            "{:#}",
            places(Path::new("/none/0.toml"), &sources(&[text]), V2_4, &Effective::default(), &handler)
                .unwrap_err()
        )
    }

    #[test]
    fn a_folder_of_drop_ins_is_preferred_where_containerd_merges() {
        let main = "version = 3\nimports = ['conf.d/*.toml']\n";
        let (paths, text) = chosen(&[main], V2_4);
        assert_eq!(paths, ["/none/conf.d/wisp.toml", "/none/0.toml"]);
        assert!(text.contains("version = 3\n[plugins.\"io.containerd.cri.v1.runtime\""), "{text}");
        assert_eq!(chosen(&["version = 2\nimports = ['conf.d/*.toml']\n"], V1_7).0, ["/none/0.toml"]);
    }

    #[test]
    fn on_1_x_the_last_import_with_cri_settings_decides() {
        let cri = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = 'p'\n";
        assert_eq!(chosen(&["version = 2\n", cri, "version = 2\n"], V1_7).0, ["/none/1.toml"]);
        assert_eq!(chosen(&[cri, cri], V2_4).0, ["/none/0.toml"]);
    }

    #[test]
    fn a_version_2_file_gets_the_table_that_its_others_have() {
        assert!(chosen(&["version = 2\n"], V2_4).1.contains("io.containerd.grpc.v1.cri"));
        let aks = "version = 2\n[plugins.\"io.containerd.cri.v1.runtime\".containerd]\ndefault_runtime_name = 'runc'\n";
        assert!(!chosen(&[aks], V2_4).1.contains("grpc.v1.cri"));
    }

    #[test]
    fn k3s_gets_a_template_that_has_its_base() {
        let k3s = "# File generated by k3s. DO NOT EDIT. Use config.toml.tmpl instead.\nversion = 2\n";
        let (paths, text) = chosen(&[k3s], V1_7);
        assert_eq!(paths, ["/none/config.toml.tmpl"]);
        assert!(text.contains("{{ template \"base\" . }}\n[plugins."), "{text}");
        let rke2 = "# File generated by rke2. DO NOT EDIT. Use config-v3.toml.tmpl instead.\nversion = 3\n";
        assert_eq!(chosen(&[rke2], V2_4).0, ["/none/config-v3.toml.tmpl"]);
    }

    #[test]
    fn an_empty_or_missing_file_gets_its_version_too() {
        assert!(chosen(&["# nothing but comments\n"], V2_4).1.contains("\nversion = 3\n"));
        assert!(chosen(&[], V1_7).1.contains("version = 2\n"));
    }

    #[test]
    fn what_cannot_be_extended_is_refused_in_one_sentence() {
        assert!(refusal("disabled_plugins = ['cri']\n").contains("disables containerd's CRI plugin"));
        assert!(refusal("root = '/x'\n").contains("is of version 1, expected 2 or later"));
        assert!(
            refusal("version = 2\nplugins = {}\n")
                .contains("cannot be added; write its `plugins` as [tables]")
        );
    }
}
