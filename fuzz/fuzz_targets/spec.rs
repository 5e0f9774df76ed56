//! A bundle's configuration: any bytes are either a container that is understood or a sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Spec;
use wisp_runtime::sandbox::options::Options;
use wisp_runtime::sandbox::seccomp;
use wisp_runtime::{bundle, program};

fuzz_target!(|bytes: &[u8]| {
    let Ok(spec) = serde_json::from_slice::<Spec>(bytes) else { return };
    if bundle::check(&spec).is_err() {
        return;
    }
    bundle::process(&spec).ok();
    let _ = program::memory_limit(&spec);
    let _ = program::cpus(&spec);
    for mount in spec.mounts().iter().flatten() {
        Options::parse(mount.options().iter().flatten()).ok();
    }
    if let Some(profile) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
        seccomp::compile(profile).ok();
    }
});
