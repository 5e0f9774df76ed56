//! What images a Wasm container may be made from: artifacts, ordinary images of every platform, and mixtures.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use wisp_tests::artifact::Artifact;
use wisp_tests::bed::LIMIT;
use wisp_tests::cri::node::Node;
use wisp_tests::cri::registry::Registry;
use wisp_tests::image::{Image, WASM};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, process, site};

pub(crate) const CASES: &[Case] = cases![Pods:
    an_artifact_of_each_layer_type_runs,
    an_artifact_that_oras_pushed_runs,
    an_artifact_that_ctr_imported_runs,
    of_several_layers_of_an_artifact_the_entrypoint_names_one,
    an_export_of_an_artifact_is_called,
    an_artifact_serves_http,
    an_artifacts_layer_beside_files_runs_by_its_title,
    an_artifact_that_needs_what_nobody_gives_fails_at_create_with_its_name,
    a_tag_that_moved_does_not_change_a_container_of_an_artifact,
    artifacts_that_share_an_empty_configuration_are_told_apart_by_digest_only,
    compiled_code_of_an_artifact_runs_without_its_bytes,
    an_artifact_that_wisp_compiled_by_digest_needs_no_compile,
    an_altered_layer_of_an_artifact_is_refused,
    an_image_of_any_platform_runs_where_containerd_unpacks_it,
];

const COMPONENT: &str = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
const MODULE: &str = "application/vnd.wasm.content.layer.v1+wasm";
/// This machine in the words of images.
const NATIVE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
const HELLO: &str = "hello from Rust, WASI 0.2\n";
const HELLO_1: &str = "hello from Rust, WASI 0.1\n";

fn an_artifact_of_each_layer_type_runs(node: &Node) -> Outcome {
    let registry = Registry::start(node)?;
    let pod = node.pod().run()?;
    for (name, media_type, guest, hello) in [
        ("cncf", WASM, "rust-0.2.wasm", HELLO),
        ("component", COMPONENT, "rust-0.2.wasm", HELLO),
        ("module", MODULE, "rust-0.1.wasm", HELLO_1),
    ] {
        let artifact =
            Artifact::new(&registry.name(&format!("{name}:1"))).layer(media_type, site::guest(guest)?);
        registry.push_artifact(&artifact)?;
        let image = registry.pull(artifact.name())?;
        // An artifact has no entrypoint, and with one layer it does not matter what the command is called.
        let ended = pod.container(&["/anything", "hello"]).image(&image).run().context(name)?;
        ended.code(0, "Completed")?.stdout(hello)?;
    }
    Ok(())
}

fn an_artifact_that_oras_pushed_runs(node: &Node) -> Outcome {
    let registry = Registry::start(node)?;
    fs::copy(site::guest("rust-0.2.wasm")?, registry.folder().join("app.wasm"))?;
    let digest = digest(&site::guest("rust-0.2.wasm")?)?;
    let config = json!({"created": "2026-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip2", "layerDigests": [digest]});
    fs::write(registry.folder().join("config.json"), config.to_string())?;
    let name = registry.name("oras:1");
    let config = format!("config.json:{}", wisp_tests::artifact::CONFIG);
    registry
        .oras(&["push", "--plain-http", "--config", &config, &name, "app.wasm:application/wasm"])?
        .success()?;
    let image = registry.pull(&name)?;
    let pod = node.pod().run()?;
    pod.container(&["app.wasm", "hello"]).image(&image).run()?.code(0, "Completed")?.stdout(HELLO)?;
    Ok(())
}

fn an_artifact_that_ctr_imported_runs(node: &Node) -> Outcome {
    let artifact = Artifact::new("wisp.test/artifact:1").layer(WASM, site::guest("rust-0.2.wasm")?);
    node.import_artifact(&artifact)?;
    let pod = node.pod().run()?;
    pod.container(&["/app.wasm", "hello"])
        .image(artifact.name())
        .run()?
        .code(0, "Completed")?
        .stdout(HELLO)?;
    Ok(())
}

fn of_several_layers_of_an_artifact_the_entrypoint_names_one(node: &Node) -> Outcome {
    let registry = Registry::start(node)?;
    let artifact = Artifact::new(&registry.name("several:1"))
        .layer(WASM, site::guest("rust-0.1.wasm")?)
        .title("old.wasm")
        .layer(WASM, site::guest("rust-0.2.wasm")?)
        .title("bin/new.wasm");
    registry.push_artifact(&artifact)?;
    let image = registry.pull(artifact.name())?;
    let pod = node.pod().run()?;
    for (name, hello) in [("old.wasm", HELLO_1), ("/old.wasm", HELLO_1), ("/bin/new.wasm", HELLO)] {
        pod.container(&[name, "hello"]).image(&image).run()?.code(0, "Completed")?.stdout(hello)?;
    }
    let refused = pod.container(&["/third.wasm"]).image(&image).refused()?;
    for word in ["/third.wasm", "old.wasm", "bin/new.wasm"] {
        ensure!(refused.contains(word), "{word} is not in {refused:?}");
    }
    let sleeper = pod.container(&["/old.wasm", "sleep", "60"]).image(&image).start()?;
    ensure!(sleeper.says(&["/bin/new.wasm", "hello"])? == HELLO);
    let absent = sleeper.exec(&["ls"]);
    let said = format!("{absent:?}");
    ensure!(said.contains("old.wasm"), "an exec of what is not there: {said}");
    Ok(())
}

fn an_export_of_an_artifact_is_called(node: &Node) -> Outcome {
    let registry = Registry::start(node)?;
    let file = registry.folder().join("add.wasm");
    fs::write(
        &file,
        wat::parse_str(
            r#"(module (func (export "add") (param i32 i32) (result i32)
        (i32.add (local.get 0) (local.get 1))))"#,
        )?,
    )?;
    let artifact = Artifact::new(&registry.name("export:1")).layer(WASM, file);
    registry.push_artifact(&artifact)?;
    let image = registry.pull(artifact.name())?;
    let pod = node.pod().run()?;
    pod.container(&["/add.wasm#add", "2", "3"]).image(&image).run()?.code(0, "Completed")?.stdout("5\n")?;
    Ok(())
}

fn an_artifact_serves_http(node: &Node) -> Outcome {
    let registry = Registry::start(node)?;
    let artifact = Artifact::new(&registry.name("http:1")).layer(WASM, site::guest("http-0.2.wasm")?);
    registry.push_artifact(&artifact)?;
    let image = registry.pull(artifact.name())?;
    let pod = node.pod().run()?;
    let service = pod.container(&["/service.wasm"]).image(&image).start()?;
    let pid = service.pid()?;
    let body = wisp_tests::bed::eventually("an answer", wisp_tests::bed::LIMIT, || {
        Ok(wisp_tests::net::get(pid, "/hello").ok())
    })?;
    ensure!(body.contains("hello"), "{body}");
    Ok(())
}

fn an_artifacts_layer_beside_files_runs_by_its_title(node: &Node) -> Outcome {
    let registry = Registry::start(node)?;
    let image = Image::new(&registry.name("mixed:1"))
        .file("/greeting.txt", "a file of the image\n")
        .wasm_layer("app.wasm", site::guest("rust-0.2.wasm")?);
    registry.push(&image)?;
    let image = registry.pull(image.name())?;
    let pod = node.pod().run()?;
    let ended = pod.container(&["/app.wasm", "cat", "/greeting.txt"]).image(&image).run()?;
    ended.code(0, "Completed")?.stdout("a file of the image\n")?;
    let refused = pod.container(&["/misspelt.wasm"]).image(&image).refused()?;
    ensure!(refused.contains("/misspelt.wasm") && refused.contains("app.wasm"), "{refused}");
    Ok(())
}

fn an_artifact_that_needs_what_nobody_gives_fails_at_create_with_its_name(node: &Node) -> Outcome {
    let registry = Registry::start(node)?;
    let component = r#"(component
        (import "acme:rockets/pad@1.0.0" (instance (export "launch" (func))))
        (core module $m (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $cli (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $cli)))"#;
    let file = registry.folder().join("rocket.wasm");
    fs::write(&file, wat::parse_str(component)?)?;
    let config = json!({
        "created": "2026-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip2", "layerDigests": [digest(&file)?],
        "component": {"imports": ["acme:rockets/pad@1.0.0"], "exports": ["wasi:cli/run@0.2.0"]},
    });
    let artifact = Artifact::new(&registry.name("rocket:1"))
        .layer(WASM, file)
        .config(wisp_tests::artifact::CONFIG, config);
    registry.push_artifact(&artifact)?;
    let image = registry.pull(artifact.name())?;
    let refused = node.pod().run()?.container(&["/rocket.wasm"]).image(&image).refused()?;
    ensure!(refused.contains("acme:rockets/pad"), "{refused}");
    Ok(())
}

fn a_tag_that_moved_does_not_change_a_container_of_an_artifact(node: &Node) -> Outcome {
    let registry = Registry::start(node)?;
    let name = registry.name("moving:1");
    let version = |guest| Ok::<_, anyhow::Error>(Artifact::new(&name).layer(WASM, site::guest(guest)?));
    registry.push_artifact(&version("rust-0.1.wasm")?)?;
    registry.pull(&name)?;
    let pod = node.pod().run()?;
    let before = pod.container(&["/app.wasm", "hello"]).image(&name).create()?;
    registry.push_artifact(&version("rust-0.2.wasm")?)?;
    registry.pull(&name)?;
    let after = pod.container(&["/app.wasm", "hello"]).image(&name).create()?;
    for (container, hello) in [(before, HELLO_1), (after, HELLO)] {
        container.start()?;
        container.ended()?.code(0, "Completed")?.stdout(hello)?;
    }
    Ok(())
}

fn artifacts_that_share_an_empty_configuration_are_told_apart_by_digest_only(node: &Node) -> Outcome {
    let registry = Registry::start(node)?;
    // The configuration's own digest must not be another case's: all cases share one containerd.
    let empty = json!({"case": format!("{} {}", node.variant.name(), registry.name(""))});
    let pod = node.pod().run()?;
    let mut images = Vec::new();
    for (name, guest) in [("first:1", "rust-0.1.wasm"), ("second:1", "rust-0.2.wasm")] {
        let artifact = Artifact::new(&registry.name(name))
            .layer(WASM, site::guest(guest)?)
            .config("application/vnd.oci.empty.v1+json", empty.clone());
        registry.push_artifact(&artifact)?;
        images.push(registry.pull(artifact.name())?);
        if images.len() == 1 {
            let alone = pod.container(&["/app.wasm", "hello"]).image(&images[0]).run()?;
            alone.code(0, "Completed")?.stdout(HELLO_1)?;
        }
    }
    ensure!(images[0] == images[1], "CRI tells them apart: {images:?}");
    let refused = pod.container(&["/app.wasm"]).image(&images[0]).refused()?;
    ensure!(refused.contains("2 different images"), "{refused}");
    if node.variant.version == "1.7" {
        return Ok(()); // its CRI forgets by what name the image was asked for
    }
    let manifest = registry.oras(&["resolve", "--plain-http", &registry.name("second:1")])?.success()?;
    let by_digest = format!("{}@{}", registry.name("second"), manifest.trim());
    let named = pod.container(&["/app.wasm", "hello"]).image(&images[0]).with(|config| {
        config.image.get_or_insert_default().user_specified_image = by_digest;
    });
    named.run()?.code(0, "Completed")?.stdout(HELLO)?;
    Ok(())
}

fn compiled_code_of_an_artifact_runs_without_its_bytes(node: &Node) -> Outcome {
    let registry = Registry::start(node)?;
    let file = unique(&registry, "")?;
    let artifact = Artifact::new(&registry.name("cached:1")).layer(WASM, file.clone());
    registry.push_artifact(&artifact)?;
    let image = registry.pull(artifact.name())?;
    let pod = node.pod().run()?;
    pod.container(&["/app.wasm"]).image(&image).run()?.code(0, "Completed")?;
    let blob = blob(node, &file)?;
    fs::rename(&blob, registry.folder().join("away"))?;
    let again = pod.container(&["/app.wasm"]).image(&image).run();
    fs::rename(registry.folder().join("away"), &blob)?;
    again?.code(0, "Completed")?;
    Ok(())
}

fn an_artifact_that_wisp_compiled_by_digest_needs_no_compile(node: &Node) -> Outcome {
    let registry = Registry::start(node)?;
    let file = unique(&registry, "")?;
    let artifact = Artifact::new(&registry.name("ahead:1")).layer(WASM, file.clone());
    registry.push_artifact(&artifact)?;
    let image = registry.pull(artifact.name())?;
    let manifest = registry.oras(&["resolve", "--plain-http", artifact.name()])?.success()?;
    let by_digest = format!("{}@{}", registry.name("ahead"), manifest.trim());
    let mut wisp = node.bed.space.command(node.bed.folder.join("wisp/bin/wisp"));
    wisp.arg("compile").arg("--containerd").arg("--address").arg(node.bed.socket()).arg(&by_digest);
    let said = process::run(&mut wisp, LIMIT)?.success()?;
    ensure!(said.starts_with(&by_digest) && said.contains("WASI 0.1 command"), "{said}");
    // Without the bytes there is nothing that could be compiled for the pod.
    let blob = blob(node, &file)?;
    fs::rename(&blob, registry.folder().join("away"))?;
    let ended = node.pod().run()?.container(&["/app.wasm"]).image(&image).run();
    fs::rename(registry.folder().join("away"), &blob)?;
    ended?.code(0, "Completed")?;
    Ok(())
}

fn an_altered_layer_of_an_artifact_is_refused(node: &Node) -> Outcome {
    let registry = Registry::start(node)?;
    let file = unique(&registry, "")?;
    let artifact = Artifact::new(&registry.name("altered:1")).layer(WASM, file.clone());
    registry.push_artifact(&artifact)?;
    let image = registry.pull(artifact.name())?;
    let blob = blob(node, &file)?;
    fs::rename(&blob, registry.folder().join("away"))?;
    fs::copy(site::guest("rust-0.2.wasm")?, &blob)?;
    let refused = node.pod().run()?.container(&["/app.wasm"]).image(&image).refused();
    fs::rename(registry.folder().join("away"), &blob)?;
    let (refused, digest) = (refused?, digest(&file)?);
    ensure!(refused.contains(&format!("expected to be {digest}")), "{refused}");
    Ok(())
}

/// A program that this node has never seen.
fn unique(registry: &Registry<'_>, name: &str) -> anyhow::Result<PathBuf> {
    let file = registry.folder().join(format!("unique{name}.wasm"));
    let mark = registry.folder().display().to_string();
    fs::write(
        &file,
        wat::parse_str(format!(
            r#"(module (memory (export "memory") 1) (data (i32.const 0) "{mark}")
        (func (export "_start")))"#
        ))?,
    )?;
    Ok(file)
}

/// The file of a blob in containerd's content store.
fn blob(node: &Node, of: &std::path::Path) -> anyhow::Result<PathBuf> {
    let blobs = node.bed.folder.join("root/io.containerd.content.v1.content/blobs");
    let blob = blobs.join(digest(of)?.replace(':', "/"));
    ensure!(blob.is_file(), "{} is not there", blob.display());
    Ok(blob)
}

fn digest(of: &std::path::Path) -> anyhow::Result<String> {
    let hex: String = Sha256::digest(fs::read(of)?).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{hex}"))
}

fn an_image_of_any_platform_runs_where_containerd_unpacks_it(node: &Node) -> Outcome {
    let registry = Registry::start(node)?;
    let pod = node.pod().run()?;
    for (os, architecture) in
        [("linux", NATIVE), ("wasi", "wasm"), ("wasi", "wasm32"), ("wasip1", "wasm"), ("wasip2", "wasm")]
    {
        let image = Image::new(&registry.name(&format!("{os}-{architecture}:1")))
            .platform(os, architecture)
            .file_of("/app.wasm", site::guest("rust-0.2.wasm")?)
            // A layer that was unpacked for another image need not be unpacked again.
            .file("/unlike", format!("{os} {architecture} {} {}", node.variant.name(), registry.name("")));
        registry.push(&image)?;
        let pulled = registry.pull(image.name())?;
        let container = pod.container(&["/app.wasm", "hello"]).image(&pulled);
        if os == "linux" || unpacks_all(node) {
            container.run().context(image.name().to_owned())?.code(0, "Completed")?.stdout(HELLO)?;
        } else {
            let refused = container.refused()?;
            ensure!(
                refused.contains("parent snapshot"),
                "{}: {refused}",
                node.bed.log_tail("with snapshotter")
            );
        }
        let index = index_of(&registry, image.name(), os, architecture)?;
        match registry.pull(&index) {
            Ok(pulled) => {
                ensure!(os == "linux", "{index} was pulled");
                pod.container(&["/app.wasm"]).image(&pulled).run()?.code(0, "Completed")?;
            }
            Err(error) => ensure!(format!("{error:#}").contains("no match for platform"), "{error:#}"),
        }
    }
    Ok(())
}

/// Whether this containerd unpacks an image without regard to its platform when nothing else is configured.
fn unpacks_all(node: &Node) -> bool {
    node.variant.version != "2.4"
}

/// Pushes an index that has one image, said to be for a platform.
fn index_of(registry: &Registry<'_>, image: &str, os: &str, architecture: &str) -> anyhow::Result<String> {
    let said = registry.oras(&["manifest", "fetch", "--descriptor", "--plain-http", image])?.success()?;
    let mut manifest: serde_json::Value = serde_json::from_str(&said)?;
    manifest["platform"] = json!({"os": os, "architecture": architecture});
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [manifest]});
    fs::write(registry.folder().join("index.json"), index.to_string())?;
    let name = format!("{}:index", image.trim_end_matches(":1"));
    registry.oras(&["manifest", "push", "--plain-http", &name, "index.json"])?.success()?;
    Ok(name)
}
