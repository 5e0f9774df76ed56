//! Images that Docker makes, and containers that Docker runs with `--runtime io.containerd.wisp.v1`.

use std::fs;

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::{Bed, LIMIT, eventually};
use wisp_tests::docker::{Docker, Store};
use wisp_tests::leaks::Inventory;
use wisp_tests::net::Connection;
use wisp_tests::process::{self, Finished};
use wisp_tests::suite::Case;
use wisp_tests::task::WISP;
use wisp_tests::{Outcome, cases, site};

use crate::images::Person;

pub(crate) const CASES: &[Case] = cases![Own:
    docker_runs_what_wisp_made,
];

pub(crate) const ONCE: &[Case] = cases![Once:
    an_image_that_docker_built_is_loaded_by_wisp_and_runs,
    an_image_that_buildx_wrote_is_loaded_by_wisp_and_runs,
    docker_runs_what_it_built_and_wisp_copied,
    docker_runs_what_buildx_wrote_and_skopeo_moved,
];

/// The newest containerd, for what is the same on all of them.
const NEWEST: &str = "2.4";
const HELLO: &str = "hello from Rust, WASI 0.1\n";
const HELLO_2: &str = "hello from Rust, WASI 0.2\n";
/// docker's two builders, and what `DOCKER_BUILDKIT` is for each.
const BUILDERS: [(&str, &str); 2] = [("classic", "0"), ("buildkit", "1")];

/// What people write for docker, and the guest beside it.
fn write_dockerfile(docker: &Docker<'_>) -> Outcome {
    let context = docker.folder.join("app");
    fs::create_dir_all(&context)?;
    fs::copy(site::guest("rust-0.2.wasm")?, context.join("rust-0.2.wasm"))?;
    let text = "FROM scratch\nCOPY rust-0.2.wasm /rust-0.2.wasm\nENTRYPOINT [\"/rust-0.2.wasm\"]\n";
    Ok(fs::write(context.join("Dockerfile"), text)?)
}

fn build(docker: &Docker<'_>, buildkit: &str, name: &str) -> Outcome {
    write_dockerfile(docker)?;
    let mut build = docker.command(&["build", "--network=none", "-t", name, "app"])?;
    process::run(build.env("DOCKER_BUILDKIT", buildkit), LIMIT)?.success().map(drop)
}

fn an_image_that_docker_built_is_loaded_by_wisp_and_runs() -> Outcome {
    let bed = Bed::start(NEWEST)?;
    let docker = Docker::start(&bed, Store::Own)?;
    let person = Person::new(&bed, "docker")?;
    for (builder, buildkit) in BUILDERS {
        let name = format!("wisp.test/{builder}:1");
        build(&docker, buildkit, &name).context(builder)?;
        let archive = person.folder.join(format!("{builder}.tar")).display().to_string();
        docker.run(&["save", "-o", &archive, &name])?;
        person.wisp_in(&["load", "-i", &archive])?;
        person.says_hello(&name)?;
    }
    Ok(())
}

/// The OCI archive that buildx writes of an image.
fn buildx(docker: &Docker<'_>, person: &Person<'_>, name: &str) -> Result<String> {
    write_dockerfile(docker)?;
    let archive = person.folder.join("buildx.tar").display().to_string();
    let output = format!("type=oci,dest={archive},name={name}");
    docker.run(&["buildx", "build", "--output", &output, "app"])?;
    Ok(archive)
}

fn an_image_that_buildx_wrote_is_loaded_by_wisp_and_runs() -> Outcome {
    let bed = Bed::start(NEWEST)?;
    let docker = Docker::start(&bed, Store::Containerd)?;
    let person = Person::new(&bed, "buildx")?;
    let name = "wisp.test/buildx:1";
    let archive = buildx(&docker, &person, name)?;
    person.wisp_in(&["load", "-i", &archive])?;
    person.says_hello(name)
}

/// Runs a container to its end, as [`WISP`].
fn run(docker: &Docker<'_>, args: &[&str]) -> Result<Finished> {
    docker.finished(&[&["run", "--rm", "--network=host", "--runtime", WISP], args].concat())
}

fn docker_runs_what_it_built_and_wisp_copied() -> Outcome {
    let bed = Bed::start(NEWEST)?;
    let docker = Docker::start(&bed, Store::Own)?;
    let person = Person::new(&bed, "copied")?;
    let registry = person.registry(5110)?;
    for (builder, buildkit) in BUILDERS {
        let (built, copied) =
            (registry.name(&format!("{builder}:1")), registry.name(&format!("{builder}:2")));
        build(&docker, buildkit, &built).context(builder)?;
        docker.run(&["push", &built])?;
        person.wisp(&["cp", &built, &copied])?;
        docker.run(&["pull", &copied])?;
        let ended = run(&docker, &[&copied, "hello"])?;
        ensure!(ended.code == 0 && ended.stdout == HELLO_2, "{builder}: {ended:?}");
    }
    Ok(())
}

fn docker_runs_what_buildx_wrote_and_skopeo_moved() -> Outcome {
    let bed = Bed::start(NEWEST)?;
    let docker = Docker::start(&bed, Store::Containerd)?;
    let person = Person::new(&bed, "moved")?;
    let registry = person.registry(5111)?;
    let moved = registry.name("moved:1");
    let archive = format!("oci-archive:{}", buildx(&docker, &person, "wisp.test/buildx:1")?);
    person.skopeo(&["copy", "--dest-tls-verify=false", &archive, &format!("docker://{moved}")])?;
    docker.run(&["pull", &moved])?;
    let ended = run(&docker, &[&moved, "hello"])?;
    ensure!(ended.code == 0 && ended.stdout == HELLO_2, "{ended:?}");
    Ok(())
}

fn docker_runs_what_wisp_made(version: &'static str) -> Outcome {
    let bed = Bed::start(version)?;
    let docker = Docker::start(&bed, Store::Own)?;
    let person = Person::new(&bed, "docker")?;
    let registry = person.registry(5105)?;
    let guest = site::guest("rust-0.1.wasm")?.display().to_string();

    let pushed = registry.name("app:1");
    person.wisp(&["push", &guest, &pushed])?;
    docker.run(&["pull", &pushed])?;
    let ended = run(&docker, &[&pushed, "hello"])?;
    ensure!(ended.code == 0 && ended.stdout == HELLO, "{ended:?}");

    // What docker makes once is there now.
    let before = Inventory::of(&bed)?;
    person.wisp(&["build", "-t", "wisp.test/saved:1", &guest])?;
    person.wisp(&["save", "-o", "saved.tar", "wisp.test/saved:1"])?;
    docker.run(&["load", "-i", &person.folder.join("saved.tar").display().to_string()])?;
    commands_end_as_they_should(&docker, "wisp.test/saved:1")?;

    let service = registry.name("service:1");
    person.wisp(&["push", &site::guest("http-0.2.wasm")?.display().to_string(), &service])?;
    a_service_serves_and_stops(&bed, &docker, &service)?;
    Inventory::nothing_new(&bed, &before)
}

fn commands_end_as_they_should(docker: &Docker<'_>, image: &str) -> Outcome {
    let ended = run(docker, &["-e", "GREETING=good morning", image, "env", "GREETING"])?;
    ensure!(ended.code == 0 && ended.stdout == "good morning\n", "{ended:?}");
    let ended = run(docker, &[image, "exit", "7"])?;
    ensure!(ended.code == 7, "{ended:?}");
    let ended = run(docker, &[image, "trap", "divide"])?;
    ensure!(ended.code == 134 && ended.stderr.contains("integer divide by zero"), "{ended:?}");
    let ended = run(docker, &["-m", "64m", image, "alloc"])?;
    ensure!(ended.code == 134 && ended.stderr.contains("64 MiB"), "{ended:?}");
    Ok(())
}

fn a_service_serves_and_stops(bed: &Bed, docker: &Docker<'_>, image: &str) -> Outcome {
    docker.run(&["run", "-d", "--name=service", "--network=host", "--runtime", WISP, image])?;
    let page = eventually("an answer", LIMIT, || {
        bed.space
            .inside(|| Ok(Connection::open().ok().and_then(|mut connection| connection.get("/hello").ok())))
    })?;
    ensure!(page.status == 200 && page.body == "hello from Rust, wasi:http 0.2\n", "{page:?}");
    docker.run(&["stop", "service"])?;
    let code = docker.run(&["wait", "service"])?;
    ensure!(code == "0\n", "a service that drains exits with {code}");
    let logs = docker.finished(&["logs", "service"])?;
    ensure!(logs.code == 0, "{logs:?}");
    docker.run(&["rm", "service"]).map(drop)
}
