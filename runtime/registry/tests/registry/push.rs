//! Pushes to registries that have it already, lose it, or take it for something else.

use std::io::{self, Read};

use oci_spec::image::MediaType;
use wisp_registry::Error;

use crate::client::{app, content, descriptor, digest, options, registry, watched};
use crate::server::{Reply, Seen, Server};

fn open(bytes: &[u8]) -> impl Fn() -> io::Result<Box<dyn Read>> {
    let bytes = bytes.to_vec();
    move || Ok(Box::new(io::Cursor::new(bytes.clone())) as Box<dyn Read>)
}

/// A registry that has nothing, and takes uploads at an address of its own choice.
fn takes(seen: &Seen) -> Reply {
    match seen.line.split(' ').next().unwrap() {
        "HEAD" => Reply::status(404),
        "POST" => Reply::new(202, &[("Location", "/upload/7?state=a%2Bb")], b""),
        _ => Reply::status(201),
    }
}

#[test]
fn a_blob_is_sent_to_where_the_registry_says() {
    let server = Server::start(|seen, _| takes(seen));
    let body = content(300_000);
    let (options, told) = watched();
    registry(&server, &options).push_blob(&app(&server), &descriptor(&body), &open(&body), None).unwrap();
    let digest = digest(&body).replace(':', "%3A");
    assert_eq!(
        server.lines()[1..],
        ["POST /v2/team/app/blobs/uploads/".to_owned(), format!("PUT /upload/7?state=a%2Bb&digest={digest}")]
    );
    let begun = &server.seen()[1];
    assert_eq!((begun.header("content-length"), begun.header("transfer-encoding")), ("0", ""));
    let sent = &server.seen()[2];
    assert_eq!((sent.header("content-length"), &sent.body), ("300000", &body));
    assert_eq!(*told.moved.lock().unwrap(), 300_000);
}

#[test]
fn a_blob_that_is_there_is_not_sent() {
    let server = Server::start(|_, _| Reply::status(200));
    let registry = registry(&server, &options());
    registry.push_blob(&app(&server), &descriptor(b"x"), &open(b"x"), None).unwrap();
    assert_eq!(server.lines().len(), 1);
    assert!(registry.has_blob(&app(&server), &descriptor(b"x")).unwrap());
}

#[test]
fn a_blob_is_taken_over_from_another_repository() {
    let server = Server::start(|seen, _| match seen.line.contains("?mount=") {
        true => Reply::new(201, &[("Location", "/v2/team/app/blobs/x")], b""),
        false => takes(seen),
    });
    let registry = registry(&server, &options());
    registry.push_blob(&app(&server), &descriptor(b"x"), &open(b"x"), Some("team/base")).unwrap();
    let mount = digest(b"x").replace(':', "%3A");
    assert_eq!(server.lines()[1], format!("POST /v2/team/app/blobs/uploads/?mount={mount}&from=team%2Fbase"));
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn a_blob_that_cannot_be_taken_over_is_sent() {
    let server = Server::start(|seen, _| takes(seen));
    let registry = registry(&server, &options());
    registry.push_blob(&app(&server), &descriptor(b"x"), &open(b"x"), Some("team/base")).unwrap();
    assert_eq!(server.seen()[2].body, b"x");
}

#[test]
fn an_upload_that_breaks_is_begun_anew() {
    let server = Server::start(|seen, before| match (before, seen.line.starts_with("PUT")) {
        (2, true) => Reply::raw(b""),
        (5, true) => Reply::status(502),
        _ => takes(seen),
    });
    let body = content(100_000);
    registry(&server, &options()).push_blob(&app(&server), &descriptor(&body), &open(&body), None).unwrap();
    assert_eq!(server.seen().last().unwrap().body, body);
    assert_eq!(server.lines().len(), 9);
}

#[test]
fn a_blob_that_is_shorter_than_said_is_an_error_and_not_tried_for_ever() {
    let server = Server::start(|seen, _| takes(seen));
    let error = registry(&server, &options())
        .push_blob(&app(&server), &descriptor(b"0123456789"), &open(b"0123"), None)
        .unwrap_err();
    assert!(matches!(error, Error::Source { .. }), "{error}");
    assert_eq!(server.lines().iter().filter(|line| line.starts_with("POST")).count(), 1);
}

#[test]
fn a_blob_that_cannot_be_read_is_told() {
    let server = Server::start(|seen, _| takes(seen));
    let gone = || Err(io::ErrorKind::NotFound.into());
    let error =
        registry(&server, &options()).push_blob(&app(&server), &descriptor(b"x"), &gone, None).unwrap_err();
    assert!(matches!(error, Error::Source { .. }), "{error}");
}

#[test]
fn an_upload_without_an_address_is_told() {
    let server = Server::start(|seen, _| match seen.line.starts_with("POST") {
        true => Reply::status(202),
        false => takes(seen),
    });
    let error = registry(&server, &options())
        .push_blob(&app(&server), &descriptor(b"x"), &open(b"x"), None)
        .unwrap_err();
    assert!(error.to_string().contains("no Location"), "{error}");
}

#[test]
fn a_manifest_is_put_under_its_tag_or_its_digest() {
    let server = Server::start(|_, _| Reply::status(201));
    let registry = registry(&server, &options());
    let put = registry.push_manifest(&app(&server), &MediaType::ImageIndex, b"{}").unwrap();
    assert_eq!(put.to_string(), digest(b"{}"));
    let named = app(&server).clone_with_digest(digest(b"{}"));
    registry.push_manifest(&named, &MediaType::ImageIndex, b"{}").unwrap();
    assert_eq!(
        server.lines(),
        ["PUT /v2/team/app/manifests/1".to_owned(), format!("PUT /v2/team/app/manifests/{}", digest(b"{}"))]
    );
    assert_eq!(server.seen()[0].header("content-type"), "application/vnd.oci.image.index.v1+json");
}

#[test]
fn a_manifest_that_the_registry_stored_otherwise_is_told() {
    let other = digest(b"other");
    let server = Server::start(move |_, _| Reply::new(201, &[("Docker-Content-Digest", &other)], b""));
    let error = registry(&server, &options())
        .push_manifest(&app(&server), &MediaType::ImageIndex, b"{}")
        .unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
}
