//! The CNCF's Wasm artifact: a component or module as the only layer, and a configuration that says what it asks for
//! (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>).

use std::collections::HashMap;

use oci_spec::image::{Descriptor, MediaType};
use serde::Serialize;

use super::{About, Program, manifest, put};
use crate::Error;
use crate::blobs::Blobs;
use crate::document::{TITLE, WASM, WASM_CONFIG};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    created: String,
    architecture: &'static str,
    os: &'static str,
    layer_digests: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<Component>,
}

#[derive(Serialize)]
struct Component {
    exports: Vec<String>,
    imports: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// What a component is for: the interface of WASI that it exports and that a host would call.
fn target(exports: &[String]) -> Option<String> {
    let entries = ["wasi:cli/run@", "wasi:http/incoming-handler@", "wasi:http/handler@"];
    exports.iter().find(|export| entries.iter().any(|entry| export.starts_with(entry))).cloned()
}

/// Makes an artifact of a program; gives its manifest.
///
/// # Errors
/// If the file is no Wasm, or cannot be read or stored.
pub fn artifact(blobs: &Blobs, program: &Program, about: &About) -> Result<Descriptor, Error> {
    let mut layer = blobs.begin_file(&program.file).map_err(Error::at(&program.file))?;
    let outside = program.read(&mut layer)?;
    let os = outside.os();
    let layer = layer.commit().map_err(Error::at(&program.file))?;
    let mut layer = layer.descriptor(MediaType::from(WASM[0]));
    layer.set_annotations(Some(HashMap::from([(TITLE.to_owned(), program.name.clone())])));
    let config = Config {
        created: about.created(),
        architecture: "wasm",
        os,
        layer_digests: vec![layer.digest().to_string()],
        component: outside.component.then(|| Component {
            target: target(&outside.exports),
            exports: outside.exports,
            imports: outside.imports,
        }),
    };
    let config = put(blobs, &config, MediaType::from(WASM_CONFIG))?;
    let manifest = manifest(config, vec![layer], &about.annotations)?;
    put(blobs, &manifest, MediaType::ImageManifest)
}
