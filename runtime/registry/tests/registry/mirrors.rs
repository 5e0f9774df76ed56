//! containerd's `certs.d`: mirrors before the registry, each with what it may do.

use std::fs;

use oci_spec::distribution::Reference;
use wisp_registry::{Options, Registry};

use crate::client::{descriptor, options};
use crate::server::{Reply, Server};

/// A registry of a name, reached by what `hosts.toml` says.
struct Configured {
    _folder: tempfile::TempDir,
    registry: Registry,
    app: Reference,
}

fn configured(text: &str) -> Configured {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("registry.invalid")).unwrap();
    fs::write(folder.path().join("registry.invalid/hosts.toml"), text).unwrap();
    let app: Reference = "registry.invalid/team/app:1".parse().unwrap();
    let options = Options { certs_d: Some(folder.path().to_path_buf()), ..options() };
    Configured { _folder: folder, registry: Registry::of(&app, &options).unwrap(), app }
}

#[test]
fn mirrors_are_asked_in_order_and_then_the_registry() {
    let empty = Server::start(|_, _| Reply::status(404));
    let broken = Server::start(|_, _| Reply::status(500));
    let own = Server::start(|_, _| Reply::ok(b"content"));
    let configured = configured(&format!(
        "server = \"http://{}\"\n[host.\"http://{}/cache\"]\nheader = {{ x-key = \"k\" }}\n[host.\"http://{}\"]\n",
        own.name(),
        empty.name(),
        broken.name()
    ));
    configured.registry.blob(&configured.app, &descriptor(b"content"), &mut Vec::new()).unwrap();
    let path = format!("team/app/blobs/{}?ns=registry.invalid", crate::client::digest(b"content"));
    assert_eq!(empty.lines(), [format!("GET /cache/v2/{path}")]);
    assert_eq!(empty.seen()[0].header("x-key"), "k");
    assert_eq!(broken.lines(), [format!("GET /v2/{path}")]);
    assert_eq!(own.lines().len(), 1);
    assert_eq!(own.seen()[0].header("x-key"), "");
}

#[test]
fn a_mirror_may_only_do_what_it_is_there_for() {
    let mirror = Server::start(|_, _| Reply::ok(b"{}"));
    let own = Server::start(|seen, _| Reply::status(if seen.line.starts_with("PUT") { 201 } else { 404 }));
    let configured = configured(&format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
        own.name(),
        mirror.name()
    ));
    configured.registry.blob(&configured.app, &descriptor(b"{}"), &mut Vec::new()).unwrap();
    assert!(configured.registry.manifest(&configured.app).is_err());
    let index = oci_spec::image::MediaType::ImageIndex;
    configured.registry.push_manifest(&configured.app, &index, b"{}").unwrap();
    assert_eq!(mirror.lines().len(), 1);
    assert_eq!(own.lines().len(), 2);
}

#[test]
fn a_blob_that_a_mirror_cuts_is_gone_on_with_elsewhere() {
    let mirror = Server::start(|_, _| Reply::ok(b"0123456789").cut(6));
    let own = Server::start(|_, _| Reply::new(206, &[("Content-Range", "bytes 4-9/10")], b"456789"));
    let configured =
        configured(&format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", own.name(), mirror.name()));
    let mut into = Vec::new();
    configured.registry.blob(&configured.app, &descriptor(b"0123456789"), &mut into).unwrap();
    assert_eq!(into, b"0123456789");
    assert_eq!(own.seen()[0].header("range"), "bytes=4-9");
}

#[test]
fn a_mirror_that_lies_about_a_blob_is_named() {
    let mirror = Server::start(|_, _| Reply::ok(b"something else"));
    let own = Server::start(|_, _| Reply::ok(b"what was pushed"));
    let configured =
        configured(&format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", own.name(), mirror.name()));
    let blob = descriptor(b"some other one");
    let error = configured.registry.blob(&configured.app, &blob, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.starts_with(&mirror.name()), "{error}");
    assert!(own.seen().is_empty());
}

#[test]
fn a_mirror_that_is_gone_is_tried_once() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let own = Server::start(|_, _| Reply::ok(b"x"));
    let configured = configured(&format!("server = \"http://{}\"\n[host.\"http://{closed}\"]\n", own.name()));
    for _ in 0..2 {
        configured.registry.blob(&configured.app, &descriptor(b"x"), &mut Vec::new()).unwrap();
    }
    assert_eq!(own.lines().len(), 2);
}
