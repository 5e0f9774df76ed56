//! Names of packages, by wkg's configuration and by what a registry says of itself.

use std::fs;

use wisp_registry::Package;

use crate::client::options;
use crate::server::{Reply, Server};

/// The reference of `acme:tool@1.2.3` by a configuration, or why there is none.
fn reference(configuration: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, configuration).unwrap();
    let package = Package::parse("acme:tool@1.2.3").unwrap();
    let found = package.reference_by(&path, &options());
    found.map(|reference| reference.whole()).map_err(|error| error.to_string())
}

#[test]
fn a_registry_says_where_its_packages_are() {
    for body in [
        r#"{"preferredProtocol": "oci", "oci": {"registry": "images.example", "namespacePrefix": "some/"}}"#,
        r#"{"ociRegistry": "images.example", "ociNamespacePrefix": "some/"}"#,
    ] {
        let server = Server::start(move |_, _| Reply::ok(body.as_bytes()));
        let found = reference(&format!("default_registry = \"{}\"", server.name()));
        assert_eq!(found, Ok("images.example/some/acme/tool:1.2.3".to_owned()));
        assert_eq!(server.lines(), ["GET /.well-known/wasm-pkg/registry.json"]);
    }
}

#[test]
fn a_registry_that_says_nothing_has_its_packages_itself() {
    let server = Server::start(|_, _| Reply::status(404));
    let found = reference(&format!("[namespace_registries]\nacme = \"{}\"", server.name()));
    assert_eq!(found, Ok(format!("{}/acme/tool:1.2.3", server.name())));
}

#[test]
fn what_the_configuration_says_comes_before_what_a_registry_says() {
    let configuration = r#"
        default_registry = "other.invalid"
        [namespace_registries]
        acme = "another.invalid"
        [package_registry_overrides]
        "acme:tool" = { registry = "r.example", metadata = { oci = { registry = "images.example", namespacePrefix = "x/" } } }
    "#;
    assert_eq!(reference(configuration), Ok("images.example/x/acme/tool:1.2.3".to_owned()));
}

#[test]
fn a_package_that_nobody_has_and_answers_that_are_none_are_told() {
    let unknown = reference("").unwrap_err();
    assert!(unknown.starts_with("no registry is known for the package acme:tool: "), "{unknown}");
    assert!(unknown.contains("default_registry"), "{unknown}");
    assert!(reference("default_registry = 1").unwrap_err().contains("config.toml"));
    for body in ["", "[]", "{\"oci\": 1}", "<html>"] {
        let server = Server::start(move |_, _| Reply::ok(body.as_bytes()));
        let error = reference(&format!("default_registry = \"{}\"", server.name())).unwrap_err();
        assert!(error.contains("registry.json"), "{error}");
    }
    let server = Server::start(|_, _| Reply::ok(br#"{"oci": {"registry": "a b/../c"}}"#));
    assert!(reference(&format!("default_registry = \"{}\"", server.name())).is_err());
}
