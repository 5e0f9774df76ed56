//! The programs that containerd and the shim start.

use std::path::Path;

use toml::Value;

use super::Finding;
use crate::install::handler::RUNTIME_TYPE;
use crate::node::config::Effective;
use crate::node::containerd::Containerd;
use crate::node::run::{self, QUICK};

const SHIM: &str = "containerd-shim-wisp-v1";
const CHECK: &str = "programs";

/// The shim, and what has to be beside it.
pub(super) fn look(containerd: &Containerd) -> Vec<Finding> {
    let Some(shim) = containerd.path.iter().map(|folder| folder.join(SHIM)).find(|path| path.is_file())
    else {
        let path: Vec<_> = containerd.path.iter().map(|folder| folder.display().to_string()).collect();
        return vec![Finding::failed(
            CHECK,
            format!("{SHIM} is not on containerd's PATH ({})", path.join(":")),
            "run `wisp install`",
        )];
    };
    let bin = shim.parent().unwrap_or(Path::new("/"));
    let missing = ["wisp-runtime", "wisp-guest", "wisp-compiler", "wisp-artifact"].into_iter().find(|name| {
        let places = [bin.join(name), bin.join("../libexec/wisp").join(name)];
        !places.iter().any(|path| path.is_file())
    });
    if let Some(name) = missing {
        return vec![Finding::failed(
            CHECK,
            format!("{name} is not beside {}", shim.display()),
            "run `wisp install`",
        )];
    }
    vec![match run::output(&bin.join("wisp-runtime"), &["--version"], QUICK) {
        Ok(text) => {
            Finding::ok(CHECK, format!("{}, {}", shim.display(), text.lines().next().unwrap_or_default()))
        }
        Err(error) => Finding::failed(
            CHECK,
            format!("{error:#}"),
            "run `wisp install` again; is that folder mounted noexec?",
        ),
    }]
}

/// The runtime of native containers.
pub(super) fn runc(containerd: &Containerd, effective: &Effective, handler: &str) -> Finding {
    const CHECK: &str = "runc";
    let option = |key: &str| {
        let handlers = effective.handlers()?.values().filter_map(Value::as_table);
        let mut native =
            handlers.filter(|table| table.get("runtime_type").and_then(Value::as_str) != Some(RUNTIME_TYPE));
        native.find_map(|table| table.get("options")?.get(key)?.as_str().filter(|text| !text.is_empty()))
    };
    if let Some(path) = containerd.find("runc") {
        return Finding::ok(CHECK, path.display().to_string());
    }
    let elsewhere = option("BinaryName").filter(|path| Path::new(path).is_file());
    let sandboxer = effective.handler(handler).and_then(|table| table.get("sandboxer")?.as_str());
    let (found, cure) = match elsewhere {
        Some(path) => (
            format!("it is at {path}, and not on containerd's PATH, where Wisp looks for it"),
            "add that folder to containerd's PATH, or link runc into one that is there",
        ),
        None => ("it is not on containerd's PATH".into(), "install runc"),
    };
    if sandboxer == Some("shim") {
        Finding::warning(CHECK, format!("{found}: pods run that have no native container"), cure)
    } else {
        Finding::failed(CHECK, format!("{found}: each pod has a native pause container"), cure)
    }
}
