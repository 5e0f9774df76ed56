//! The text that gives containerd the handler, and how it is put into a file and taken out again.
//!
//! It is a block between two comments at the end of the file: nothing else of the file is touched, whatever its form, and
//! without the block it is what it was, to the byte.

use std::fmt::Write;

use anyhow::{Result, bail};
use toml::{Table, Value};

use crate::node::containerd::Version;

/// What containerd calls the shim; it looks for `containerd-shim-wisp-v1`.
pub(crate) const RUNTIME_TYPE: &str = "io.containerd.wisp.v1";

const BEGIN: &str = "# >>> wisp: written by `wisp install`, which removes it with --uninstall";
const END: &str = "# <<< wisp";

/// The first containerd that survives every pod under `sandboxer = "shim"`: those before, from 2.0 on, crash with the first one on
/// the host's network (`core/runtime/v2/bundle.go` takes a sandbox without an OCI spec for one with).
pub(crate) const SHIM_SANDBOX: Version = Version(2, 3, 0);
/// The first containerd that can leave the pause image out.
pub(crate) const NO_PAUSE_IMAGE: Version = Version(2, 4, 0);

/// Who holds a pod's namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sandboxer {
    /// The shim: a pod has no pause container (containerd 2.3 and later)
    Shim,
    /// A pause container
    Podsandbox,
}

/// A handler as containerd is to have it.
#[derive(Debug, Clone)]
pub(crate) struct Handler {
    /// Its name, which a RuntimeClass gives.
    pub(crate) name: String,
    settings: Table,
}

impl Handler {
    /// The handler for this version of containerd.
    ///
    /// # Errors
    /// Where the version cannot do what is asked.
    pub(crate) fn new(name: &str, sandboxer: Option<Sandboxer>, version: Version) -> Result<Self> {
        let can = version >= SHIM_SANDBOX;
        let default = if can { Sandboxer::Shim } else { Sandboxer::Podsandbox };
        let sandboxer = sandboxer.unwrap_or(default);
        if sandboxer == Sandboxer::Shim && !can {
            bail!(
                "containerd {version} does not bear every pod under the sandboxer shim; leave --sandboxer out, or use containerd {SHIM_SANDBOX} or later"
            );
        }
        let mut settings = Table::new();
        settings.insert("runtime_type".into(), RUNTIME_TYPE.into());
        settings.insert("pod_annotations".into(), Value::Array(vec!["wisp.dev/*".into()]));
        if sandboxer == Sandboxer::Shim {
            settings.insert("sandboxer".into(), "shim".into());
            if version >= NO_PAUSE_IMAGE {
                settings.insert("disable_pause_image_pull".into(), true.into());
            }
        }
        Ok(Self { name: name.into(), settings })
    }

    /// Whether a handler that containerd has, with all its defaults, is this one.
    pub(crate) fn is(&self, found: &Table) -> bool {
        let sandboxer = |table: &Table| match table.get("sandboxer").and_then(Value::as_str) {
            Some("shim") => Sandboxer::Shim,
            _ => Sandboxer::Podsandbox,
        };
        sandboxer(found) == sandboxer(&self.settings)
            && self.settings.iter().all(|(key, value)| found.get(key) == Some(value))
    }

    /// The block, with `prelude` before the table.
    pub(crate) fn block(&self, prelude: &str, plugin: &str) -> String {
        let mut text = format!("{BEGIN}\n{prelude}");
        // Writing to a string does not fail.
        let _ = writeln!(text, "[plugins.\"{plugin}\".containerd.runtimes.{}]", self.name);
        for (key, value) in &self.settings {
            let _ = writeln!(text, "  {key} = {value}");
        }
        text + END + "\n"
    }
}

/// A text with the block at its end; an older block is replaced.
pub(crate) fn with_block(text: &str, block: &str) -> String {
    let text = without_block(text);
    // The empty line is there also where the last line has no end, so that it always tells what to take out.
    if text.is_empty() { block.into() } else { format!("{text}\n{block}") }
}

/// A text as it was before the block was put in.
pub(crate) fn without_block(text: &str) -> String {
    let found = text.find(BEGIN).and_then(|start| {
        let end = start + text[start..].find(END)? + END.len();
        Some((start, end))
    });
    let Some((start, end)) = found else { return text.into() };
    let before = text[..start].strip_suffix('\n').unwrap_or(&text[..start]);
    let after = text[end..].strip_prefix('\n').unwrap_or(&text[end..]);
    // What was written behind the block begins a line of its own.
    let joint = if before.is_empty() || before.ends_with('\n') || after.is_empty() { "" } else { "\n" };
    format!("{before}{joint}{after}")
}

/// Whether a text has the block.
pub(crate) fn has_block(text: &str) -> bool {
    text.contains(BEGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config::{V2, V3};

    fn handler(version: Version) -> Handler {
        Handler::new("wisp", None, version).unwrap()
    }

    #[test]
    fn each_version_of_containerd_gets_what_it_understands() {
        let keys = |version| handler(version).settings.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(Version(1, 7, 35)), ["pod_annotations", "runtime_type"]);
        assert_eq!(keys(Version(2, 2, 9)), ["pod_annotations", "runtime_type"]);
        assert_eq!(keys(Version(2, 3, 4)), ["pod_annotations", "runtime_type", "sandboxer"]);
        assert_eq!(
            keys(Version(2, 4, 2)),
            ["disable_pause_image_pull", "pod_annotations", "runtime_type", "sandboxer"]
        );
        let error = Handler::new("wisp", Some(Sandboxer::Shim), Version(2, 2, 9)).unwrap_err().to_string();
        assert!(error.contains("containerd 2.2.9 does not bear every pod"), "{error}");
    }

    #[test]
    fn a_file_is_itself_again_without_the_block() {
        let block = handler(Version(2, 4, 2)).block("", V3);
        for text in
            ["", "\n", "version = 3", "version = 3\n", "version = 3\n\n\n", "# \u{e9}\r\nversion = 3\r\n"]
        {
            let with = with_block(text, &block);
            assert_eq!(with_block(&with, &block), with);
            assert_eq!(without_block(&with), text);
            with.parse::<Table>().unwrap();
            let behind = format!("{with}[debug]\nlevel = 'info'\n");
            without_block(&behind).parse::<Table>().unwrap();
            assert!(without_block(&behind).starts_with(text));
        }
    }

    #[test]
    fn the_block_adds_one_handler_beside_others() {
        let text = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  a = 1\n";
        let table: Table = with_block(text, &handler(Version(2, 2, 9)).block("", V2)).parse().unwrap();
        let runtimes = table["plugins"][V2]["containerd"]["runtimes"].as_table().unwrap();
        assert_eq!(runtimes.keys().collect::<Vec<_>>(), ["runc", "wisp"]);
        assert!(handler(Version(2, 2, 9)).is(runtimes["wisp"].as_table().unwrap()));
        assert!(!handler(Version(2, 4, 0)).is(runtimes["wisp"].as_table().unwrap()));
    }
}
