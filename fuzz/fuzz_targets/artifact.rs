//! What a registry gave: any bytes are either an image that is understood or a sentence, and a layer that runs is one that was named.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wisp_artifact::containerd::Asked;
use wisp_artifact::image::{Candidate, Config, Image, pick};
use wisp_contract::artifact::{Artifact, Layer};
use wisp_contract::digest::Digest;
use wisp_images::document::{Document, Wasm};

// One a line: a manifest, a configuration, CRI's metadata of a container, an entrypoint.
fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n').chain(std::iter::repeat(&b""[..]));
    let mut line = || lines.next().unwrap_or_default();
    let (manifest, config, metadata, name) = (line(), line(), line(), line());
    let asked = Asked::parse(metadata).ok().flatten();
    let Ok(Document::Manifest(manifest)) = Document::parse(manifest) else { return };
    let Ok(image) = Image::of(*manifest) else { return };
    let asked = asked.unwrap_or(Asked { config: image.config, reference: None });
    let named: Vec<Digest> = image.wasm.iter().map(|layer| layer.digest).collect();
    let candidate = Candidate { target: Digest([1; 32]), manifest: Digest([2; 32]), image };
    let Ok(Some(image)) = pick(vec![candidate], &Config::parse(config), &asked) else { return };
    let layer = |layer: Wasm| Layer {
        title: layer.title,
        digest: layer.digest,
        blob: Default::default(),
    };
    let artifact =
        Artifact { has_files: image.has_files, layers: image.wasm.into_iter().map(layer).collect() };
    if let Ok(layer) = artifact.layer(&String::from_utf8_lossy(name), true) {
        assert!(named.contains(&layer.digest));
    }
});
