//! containerd's configuration: its files as they are written, and what containerd makes of them.
//!
//! Three habits of containerd decide what may be written where:
//! - The tables of its CRI plugin are called otherwise since version 3 ([`V2`], [`V3`]). A version 2 file is migrated when it is
//!   loaded, and a table of the new name makes the migration leave the old one's handlers out.
//! - containerd 1.x replaces a plugin's whole table by that of an imported file; 2.x merges the two.
//! - Imports of the built-in defaults are not loaded: a file must name `conf.d` itself.

use std::collections::VecDeque;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use toml::{Table, Value};

use super::containerd::{ADDRESS, Containerd};
use super::run::{self, QUICK};
use crate::install::handler::without_block;

/// The CRI plugin in files of version 2.
pub(crate) const V2: &str = "io.containerd.grpc.v1.cri";
/// The part of the CRI plugin that runs pods, in files of version 3 and 4.
pub(crate) const V3: &str = "io.containerd.cri.v1.runtime";
/// The part of the CRI plugin that pulls images, in files of version 3 and 4.
pub(crate) const V3_IMAGES: &str = "io.containerd.cri.v1.images";

/// One file, as it is written.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What is in it.
    pub(crate) text: String,
    table: Table,
}

impl Source {
    /// Reads a file; `None` where there is none.
    ///
    /// # Errors
    /// One sentence with the line, where it is no TOML.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, text).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Understands the text of a file; `path` is where it is or will be.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub(crate) fn parse(path: &Path, text: String) -> Result<Self> {
        let table = text.parse::<Table>().map_err(|error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
            anyhow!("{}, line {line}: {}", path.display(), error.message().trim().replace('\n', ", "))
        })?;
        Ok(Self { path: path.into(), text, table })
    }

    /// A main file and all that it imports, in the order in which containerd merges them.
    ///
    /// # Errors
    /// Where one cannot be read, or names a file that is not there.
    pub(crate) fn all(main: Self) -> Result<Vec<Self>> {
        let (mut found, mut pending) = (Vec::<Self>::new(), VecDeque::from([main]));
        while let Some(source) = pending.pop_front() {
            if found.iter().any(|known| known.path == source.path) {
                continue;
            }
            for pattern in source.imports() {
                for path in matches(&pattern)? {
                    let import = Self::read(&path)?;
                    pending.push_back(import.with_context(|| {
                        format!("{} imports {}, which is not there", source.path.display(), path.display())
                    })?);
                }
            }
            found.push(source);
        }
        Ok(found)
    }

    /// Its version; a file that names none is of version 1.
    pub(crate) fn version(&self) -> i64 {
        self.table.get("version").and_then(Value::as_integer).unwrap_or(1)
    }

    /// Whether nothing is set in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether it sets anything of this plugin.
    pub(crate) fn has_plugin(&self, id: &str) -> bool {
        lookup(&self.table, &["plugins", id]).is_some()
    }

    /// The handler that it has for the plugin of this id.
    pub(crate) fn handler(&self, id: &str, name: &str) -> Option<&Table> {
        lookup(&self.table, &["plugins", id, "containerd", "runtimes", name])?.as_table()
    }

    /// Whether it has any handler of the CRI plugin of version 2, beside those of our own block.
    pub(crate) fn has_foreign_handlers(&self) -> bool {
        let bare = without_block(&self.text).parse::<Table>().unwrap_or_default();
        lookup(&bare, &["plugins", V2, "containerd", "runtimes"]).is_some()
    }

    /// The name of the CRI plugin in this file: what is there already decides, then the version.
    pub(crate) fn cri(&self) -> &'static str {
        // A version 2 file may have tables of version 3 (AKS writes such), which win.
        if self.version() >= 3 || self.has_plugin(V3) { V3 } else { V2 }
    }

    /// Whether it turns the CRI plugin off.
    pub(crate) fn disables_cri(&self) -> bool {
        let list = self.table.get("disabled_plugins").and_then(Value::as_array);
        let off = |id: &str| id == "cri" || id == V2 || id == V3;
        list.is_some_and(|list| list.iter().filter_map(Value::as_str).any(off))
    }

    /// The files that it imports: absolute paths, each perhaps with an asterisk.
    pub(crate) fn imports(&self) -> Vec<String> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let list = self.table.get("imports").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let absolute = |path: &str| folder.join(path).display().to_string();
        list.iter().filter_map(Value::as_str).map(absolute).collect()
    }

    /// The same text for another place, importing `import` as well: in the place of one of its imports, or after them.
    ///
    /// # Errors
    /// Where an import is no pattern.
    pub(crate) fn elsewhere(&self, import: Option<&Path>, replaces: Option<&Path>) -> Result<String> {
        let mut imports = Vec::new();
        for pattern in self.imports() {
            for path in matches(&pattern)? {
                let path = if Some(&*path) == replaces { import.unwrap_or(&path) } else { &path };
                imports.push(Value::String(path.display().to_string()));
            }
        }
        let new = import.filter(|_| replaces.is_none());
        imports.extend(new.map(|path| Value::String(path.display().to_string())));
        let mut table = self.table.clone();
        table.insert("imports".into(), Value::Array(imports));
        Ok(table.to_string())
    }
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    if !pattern.contains('*') {
        return Ok(vec![pattern.into()]);
    }
    let paths = glob::glob(pattern).with_context(|| format!("the import {pattern} is no pattern"))?;
    paths.map(|path| path.with_context(|| format!("reading the import {pattern}"))).collect()
}

/// What containerd makes of its files: the answer of `containerd config dump`, with every default.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Effective(Table);

impl Effective {
    /// Asks a containerd what it would make of this main file.
    ///
    /// # Errors
    /// One sentence with what containerd objects to.
    pub(crate) fn of(containerd: &Containerd, main: &Path) -> Result<Self> {
        let path = main.display().to_string();
        // 1.6 objects to a file that is not there, and that means the defaults.
        let dump = ["--config", &path, "config", "dump"];
        let arguments = if main.exists() { &dump[..] } else { &["config", "default"] };
        let text = run::output(&containerd.program, arguments, QUICK)?;
        let mut table: Table = text.parse().context("`containerd config dump` answered no TOML")?;
        // On 1.x the files that were loaded, in any order.
        table.remove("imports");
        Ok(Self(table))
    }

    /// The settings of CRI's runtime part.
    pub(crate) fn cri(&self) -> Option<&Table> {
        [V3, V2].iter().find_map(|id| lookup(&self.0, &["plugins", id])?.as_table())
    }

    /// The settings of CRI's image part.
    pub(crate) fn images(&self) -> Option<&Table> {
        [V3_IMAGES, V2].iter().find_map(|id| lookup(&self.0, &["plugins", id])?.as_table())
    }

    /// The handlers of pods by name.
    pub(crate) fn handlers(&self) -> Option<&Table> {
        lookup(self.cri()?, &["containerd", "runtimes"])?.as_table()
    }

    /// One handler.
    pub(crate) fn handler(&self, name: &str) -> Option<&Table> {
        self.handlers()?.get(name)?.as_table()
    }

    /// The handler of pods without a RuntimeClass.
    pub(crate) fn default_handler(&self) -> Option<&Table> {
        self.handler(lookup(self.cri()?, &["containerd", "default_runtime_name"])?.as_str()?)
    }

    /// The socket.
    pub(crate) fn address(&self) -> PathBuf {
        let places = [&["grpc", "address"][..], &["plugins", "io.containerd.server.v1.grpc", "address"]];
        let found =
            places.iter().find_map(|keys| lookup(&self.0, keys)?.as_str().filter(|text| !text.is_empty()));
        found.unwrap_or(ADDRESS).into()
    }

    /// Fails where `self` differs from `before` in more than one handler.
    ///
    /// # Errors
    /// One sentence that names what else would change.
    pub(crate) fn differs_only_in(&self, before: &Self, handler: &str) -> Result<()> {
        let others = |effective: &Self| {
            let mut table = effective.0.clone();
            for id in [V2, V3] {
                if let Some(Value::Table(handlers)) =
                    lookup_mut(&mut table, &["plugins", id, "containerd", "runtimes"])
                {
                    handlers.remove(handler);
                }
            }
            Value::Table(table)
        };
        match difference(&others(before), &others(self), String::new()) {
            None => Ok(()),
            Some(key) => bail!("it would also change `{key}`"),
        }
    }
}

/// The path of the first key whose value differs.
fn difference(a: &Value, b: &Value, path: String) -> Option<String> {
    match (a, b) {
        (Value::Table(a), Value::Table(b)) => a.keys().chain(b.keys()).find_map(|key| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (a.get(key), b.get(key)) {
                (Some(a), Some(b)) => difference(a, b, path),
                _ => Some(path),
            }
        }),
        _ => (a != b).then_some(path),
    }
}

fn lookup<'a>(table: &'a Table, keys: &[&str]) -> Option<&'a Value> {
    let (last, path) = keys.split_last()?;
    path.iter().try_fold(table, |table, key| table.get(*key)?.as_table())?.get(*last)
}

fn lookup_mut<'a>(table: &'a mut Table, keys: &[&str]) -> Option<&'a mut Value> {
    let (last, path) = keys.split_last()?;
    path.iter().try_fold(table, |table, key| table.get_mut(*key)?.as_table_mut())?.get_mut(*last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::parse(Path::new("/etc/containerd/config.toml"), text.into()).unwrap()
    }

    #[test]
    fn what_is_in_a_file_decides_the_name_of_the_plugin() {
        assert_eq!(source("version = 2").cri(), V2);
        assert_eq!(source("version = 3").cri(), V3);
        assert_eq!(source("version = 4").cri(), V3);
        assert_eq!(source("version = 2\n[plugins.'io.containerd.cri.v1.runtime'.cni]\n").cri(), V3);
    }

    #[test]
    fn imports_are_absolute_and_kept_when_a_file_is_checked_elsewhere() {
        let source = source("version = 3\nimports = ['conf.d/*.toml', '/x.toml']\n");
        assert_eq!(source.imports(), ["/etc/containerd/conf.d/*.toml", "/x.toml"]);
        let imports = |import: &str, replaces: Option<&str>| {
            let text = source.elsewhere(Some(Path::new(import)), replaces.map(Path::new)).unwrap();
            Source::parse(Path::new("/run/copy"), text).unwrap().imports()
        };
        assert_eq!(imports("/run/new.toml", None), ["/x.toml", "/run/new.toml"]);
        assert_eq!(imports("/run/new.toml", Some("/x.toml")), ["/run/new.toml"]);
    }

    #[test]
    fn an_error_in_a_file_names_its_line() {
        let error =
            Source::parse(Path::new("/c.toml"), "version = 2\nx = = 1\n".into()).unwrap_err().to_string();
        assert!(error.starts_with("/c.toml, line 2: "), "{error}");
    }

    #[test]
    fn a_disabled_cri_is_seen() {
        assert!(source("disabled_plugins = ['cri']").disables_cri());
        assert!(source("version = 2\ndisabled_plugins = ['io.containerd.grpc.v1.cri']").disables_cri());
        assert!(
            !source("version = 2\ndisabled_plugins = ['io.containerd.internal.v1.restart']").disables_cri()
        );
    }

    #[test]
    fn a_change_of_anything_but_the_handler_is_named() {
        let effective = |text: &str| Effective(text.parse().unwrap());
        let before =
            effective("a = 1\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nt = 'r'\n");
        let good = effective(
            "a = 1\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes]\nrunc = {t = 'r'}\nwisp = {t = 'w'}\n",
        );
        good.differs_only_in(&before, "wisp").unwrap();
        let bad = effective(
            "a = 1\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes]\nwisp = {t = 'w'}\n",
        );
        let error = bad.differs_only_in(&before, "wisp").unwrap_err().to_string();
        assert!(
            error.ends_with("`plugins.io.containerd.cri.v1.runtime.containerd.runtimes.runc`"),
            "{error}"
        );
    }
}
