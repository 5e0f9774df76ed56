//! `-v` and `-info`: what this shim and its runtime are.

use std::io::{self, Read};
use std::process::{Command, Stdio};

use anyhow::Context;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use serde_json::Value;
use wisp_contract::companion;

use crate::RUNTIME_NAME;

/// The type of the OCI runtime specification's `features.md`, whose value is JSON.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// The text for `-v`.
pub(crate) fn version() -> String {
    format!("containerd-shim-wisp-v1:\n  Version:  {}\n", env!("CARGO_PKG_VERSION"))
}

/// The message for `-info`: containerd's `RuntimeInfo`. The runtime's options may be on stdin.
///
/// # Errors
/// What is on stdin is not a message.
pub(crate) fn info() -> anyhow::Result<Vec<u8>> {
    let mut input = Vec::new();
    io::stdin().take(1 << 20).read_to_end(&mut input).context("reading the runtime options from stdin")?;
    let options =
        Any::parse_from_bytes(&input).context("the runtime options on stdin are not a protobuf Any")?;
    let info = RuntimeInfo {
        name: RUNTIME_NAME.to_owned(),
        version: MessageField::some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..RuntimeVersion::default()
        }),
        options: Some(options).filter(|options| !options.type_url.is_empty()).into(),
        features: features().into(),
        ..RuntimeInfo::default()
    };
    Ok(info.write_to_bytes()?)
}

/// What `wisp-runtime features` says, if it is there and answers.
fn features() -> Option<Any> {
    let runtime = companion::find("wisp-runtime").ok()?;
    let output =
        Command::new(runtime).arg("features").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    serde_json::from_slice::<Value>(&output.stdout).ok().filter(Value::is_object)?;
    Some(Any { type_url: FEATURES.to_owned(), value: output.stdout, ..Any::default() })
}
