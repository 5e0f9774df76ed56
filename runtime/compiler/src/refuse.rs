//! Programs that the compiler gives up on.

use anyhow::{Error, anyhow};
use wasmparser::{Validator, WasmFeatures};

/// The sentence for a program that the compiler gave up on: most often an invalid function body.
pub(crate) fn uncompilable(wasm: &[u8], features: WasmFeatures, error: &wisp_engine::Error) -> Error {
    match Validator::new_with_features(features).validate_all(wasm) {
        Err(invalid_at) => wisp_reader::invalid(wasm, &invalid_at).into(),
        Ok(_) => anyhow!(
            "the program is valid WebAssembly that cannot be compiled here ({}); make it smaller or simpler, or report \
             it with the program",
            one_line(error)
        ),
    }
}

/// An error and its causes, without line breaks.
fn one_line(error: &wisp_engine::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
