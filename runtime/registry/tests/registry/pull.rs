//! Manifests and blobs from networks that break and registries that lie.

use crate::client::{LONGEST, app, content, descriptor, digest, options, pull, registry, watched};
use crate::server::{Reply, Seen, Server};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;
const OCI: (&str, &str) = ("Content-Type", "application/vnd.oci.image.manifest.v1+json");

/// The part of a body that is asked for.
fn ranged(seen: &Seen, body: &[u8]) -> Reply {
    let Some(range) = seen.header("range").strip_prefix("bytes=") else { return Reply::ok(body) };
    let start: usize = range.split('-').next().unwrap().parse().unwrap();
    let said = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
    Reply::new(206, &[("Content-Range", &said)], &body[start..])
}

#[test]
fn a_manifest_comes_with_its_type_and_digest() {
    let server = Server::start(|_, _| Reply::new(200, &[OCI], MANIFEST));
    let found = registry(&server, &options()).manifest(&app(&server)).unwrap();
    assert_eq!(found.bytes, MANIFEST);
    assert_eq!(found.digest.to_string(), digest(MANIFEST));
    assert_eq!(found.media_type.to_string(), OCI.1);
    assert_eq!(server.lines(), ["GET /v2/team/app/manifests/1"]);
    assert!(server.seen()[0].header("accept").contains("application/vnd.oci.image.index.v1+json"));
}

#[test]
fn a_registry_that_names_no_type_leaves_it_to_the_manifest() {
    let server = Server::start(|_, _| Reply::new(200, &[("Content-Type", "text/plain")], MANIFEST));
    let found = registry(&server, &options()).manifest(&app(&server)).unwrap();
    assert_eq!(found.media_type.to_string(), OCI.1);
}

#[test]
fn a_manifest_of_another_digest_is_refused() {
    let other = digest(b"other");
    let header = other.clone();
    let server = Server::start(move |_, _| Reply::new(200, &[("Docker-Content-Digest", &header)], MANIFEST));
    let registry = registry(&server, &options());
    let error = registry.manifest(&app(&server)).unwrap_err().to_string();
    assert!(error.contains(&digest(MANIFEST)) && error.contains(&other), "{error}");
    let named = app(&server).clone_with_digest(other);
    assert!(registry.manifest(&named).is_err());
    let right = app(&server).clone_with_digest(digest(MANIFEST));
    assert!(registry.manifest(&right).is_ok());
}

#[test]
fn a_manifest_of_10_mb_is_read_to_4_mib_and_refused() {
    let server = Server::start(|_, _| Reply::ok(&vec![b' '; 10_000_000]));
    let error = registry(&server, &options()).manifest(&app(&server)).unwrap_err().to_string();
    assert!(error.contains("more than 4194304 bytes"), "{error}");
}

#[test]
fn a_name_is_resolved_by_head_and_one_that_is_not_there_is_nothing() {
    let promised = digest(MANIFEST);
    let server = Server::start(move |seen, _| match seen.line.as_str() {
        "HEAD /v2/team/app/manifests/1" => {
            Reply::new(200, &[OCI, ("Docker-Content-Digest", &promised), ("Content-Length", "77")], b"")
        }
        _ => Reply::status(404),
    });
    let registry = registry(&server, &options());
    let found = registry.resolve(&app(&server)).unwrap().unwrap();
    assert_eq!((found.digest().to_string(), found.size()), (digest(MANIFEST), 77));
    let other = format!("{}/team/app:2", server.name()).parse().unwrap();
    assert_eq!(registry.resolve(&other).unwrap(), None);
    assert!(server.lines().iter().all(|line| line.starts_with("HEAD")));
}

#[test]
fn a_registry_whose_head_says_too_little_is_asked_for_the_manifest() {
    let server = Server::start(|seen, _| match seen.line.starts_with("HEAD") {
        true => Reply::new(200, &[OCI], b""),
        false => Reply::new(200, &[OCI], MANIFEST),
    });
    let found = registry(&server, &options()).resolve(&app(&server)).unwrap().unwrap();
    assert_eq!(found.digest().to_string(), digest(MANIFEST));
}

#[test]
fn a_blob_is_streamed_and_told() {
    let body = content(300_000);
    let blob = descriptor(&body);
    let sent = body.clone();
    let server = Server::start(move |_, _| Reply::ok(&sent));
    let (options, told) = watched();
    assert_eq!(pull(&server, &blob, &options), (body, Ok(())));
    assert_eq!(*told.moved.lock().unwrap(), 300_000);
}

#[test]
fn an_empty_blob_is_one_too() {
    let server = Server::start(|_, _| Reply::ok(b""));
    assert_eq!(pull(&server, &descriptor(b""), &options()), (Vec::new(), Ok(())));
}

#[test]
fn a_blob_that_is_cut_is_gone_on_with_where_it_ended() {
    let body = content(200_000);
    let (blob, sent) = (descriptor(&body), body.clone());
    let server = Server::start(move |seen, before| match before {
        0 | 1 => ranged(seen, &sent).cut(50_000),
        _ => ranged(seen, &sent),
    });
    assert_eq!(pull(&server, &blob, &options()), (body, Ok(())));
    let ranges: Vec<_> = server.seen().iter().map(|seen| seen.header("range").to_owned()).collect();
    assert_eq!(ranges, ["", "bytes=150000-199999", "bytes=150000-199999"]);
}

#[test]
fn a_cut_blob_of_a_registry_without_ranges_starts_again() {
    let body = content(200_000);
    let (blob, sent) = (descriptor(&body), body.clone());
    let server = Server::start(move |_, before| Reply::ok(&sent).cut(if before == 0 { 50_000 } else { 0 }));
    assert_eq!(pull(&server, &blob, &options()), (body, Ok(())));
}

#[test]
fn a_part_that_was_not_asked_for_is_refused() {
    let body = content(1000);
    let (blob, sent) = (descriptor(&body), body);
    let server = Server::start(move |_, before| match before {
        0 => Reply::ok(&sent).cut(500),
        _ => Reply::new(206, &[("Content-Range", "bytes 900-999/1000")], &sent[900..]),
    });
    let error = pull(&server, &blob, &options()).1.unwrap_err();
    assert!(error.contains("bytes 900-999/1000") && error.contains("from byte 500"), "{error}");
}

#[test]
fn a_blob_that_stalls_is_cut_and_gone_on_with() {
    let body = content(1000);
    let (blob, sent) = (descriptor(&body), body.clone());
    let server = Server::start(move |seen, before| match before {
        0 => ranged(seen, &sent).cut(400).then_stalls(),
        _ => ranged(seen, &sent),
    });
    let (options, told) = watched();
    assert_eq!(pull(&server, &blob, &options), (body, Ok(())));
    let waits = told.waits.lock().unwrap();
    assert!(waits[0].0.contains("sent nothing for too long"), "{waits:?}");
}

#[test]
fn a_registry_that_always_cuts_is_given_up() {
    let body = content(1000);
    let blob = descriptor(&body);
    let server = Server::start(move |_, _| Reply::ok(&body).cut(1));
    let error = pull(&server, &blob, &options()).1.unwrap_err();
    assert!(error.contains("after 999 of 1000 bytes"), "{error}");
    assert_eq!(server.seen().len(), 6);
}

#[test]
fn a_blob_of_another_digest_is_refused() {
    let blob = descriptor(b"what was pushed");
    let server = Server::start(|_, _| Reply::ok(b"what was stored"));
    let error = pull(&server, &blob, &options()).1.unwrap_err();
    assert!(
        error.contains(&digest(b"what was stored")) && error.contains("nothing of it is used"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_blob_is_never_read_beyond_its_size() {
    let blob = descriptor(b"short");
    let server = Server::start(|_, _| Reply::ok(b"short and then some more"));
    let (written, done) = pull(&server, &blob, &options());
    assert!(written.len() <= 5);
    assert!(done.unwrap_err().contains("more than 5 bytes"));
}

#[test]
fn a_registry_that_fails_thrice_is_asked_four_times() {
    let server = Server::start(|_, before| match before {
        0..3 => Reply::status(503),
        _ => Reply::ok(b"at last"),
    });
    let (options, told) = watched();
    assert_eq!(pull(&server, &descriptor(b"at last"), &options).1, Ok(()));
    assert_eq!(told.waits.lock().unwrap().len(), 3);
}

#[test]
fn a_registry_that_says_when_is_asked_then() {
    let server = Server::start(|_, before| match before {
        0 => Reply::new(429, &[("Retry-After", "1")], b""),
        1 => Reply::new(503, &[("Retry-After", "Sat, 06 Nov 2094 08:49:37 GMT")], b""),
        _ => Reply::ok(b"at last"),
    });
    let (options, told) = watched();
    assert_eq!(pull(&server, &descriptor(b"at last"), &options).1, Ok(()));
    let waits = told.waits.lock().unwrap();
    // Both are more than the longest pause there is.
    assert_eq!((waits[0].1, waits[1].1), (LONGEST, LONGEST));
    assert!(waits[0].0.contains("too many requests"), "{waits:?}");
}

#[test]
fn what_is_refused_for_good_is_not_tried_again_and_says_why() {
    for (status, words) in
        [(403, "does not permit"), (404, "has no"), (400, "answered 400"), (418, "answered 418")]
    {
        let body = br#"{"errors":[{"code":"NO","message":"because\u001b[2J"}]}"#;
        let server = Server::start(move |_, _| Reply::new(status, &[], body));
        let error = registry(&server, &options()).manifest(&app(&server)).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("(NO: because[2J)"), "{error}");
        assert!(error.contains(&server.name()) && error.contains("team/app"), "{error}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn what_is_no_http_is_told() {
    for garbage in
        ["SSH-2.0-OpenSSH\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/9 200 OK\r\n\r\n", "\0\0\0\0\r\n\r\n"]
    {
        let server = Server::start(move |_, _| Reply::raw(garbage.as_bytes()));
        let error = registry(&server, &options()).manifest(&app(&server)).unwrap_err().to_string();
        assert!(error.starts_with(&server.name()), "{error}");
        assert!(error.contains("did not answer in HTTP"), "{garbage:?}: {error}");
    }
}

#[test]
fn a_header_without_an_end_is_not_read_for_ever() {
    let server = Server::start(|_, _| {
        Reply::raw(&[b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".repeat(200_000)].concat())
    });
    let error = registry(&server, &options()).manifest(&app(&server)).unwrap_err().to_string();
    assert!(error.contains("did not answer in HTTP"), "{error}");
}

#[test]
fn a_plain_registry_where_tls_was_expected_is_told() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        "TLS" => Reply::raw(b"HTTP/1.0 400 Bad Request\r\n\r\nspeak HTTP\n"),
        _ => Reply::ok(MANIFEST),
    });
    let tls = wisp_registry::Options { insecure_skip_verify: true, ..options() };
    let error = registry(&server, &tls).manifest(&app(&server)).unwrap_err().to_string();
    assert!(error.contains("--plain-http"), "{error}");
    let plain = wisp_registry::Options { plain_http: true, ..tls };
    assert!(registry(&server, &plain).manifest(&app(&server)).is_ok());
}

#[test]
fn a_registry_with_tls_where_plain_http_was_expected_is_told() {
    let server = Server::start(|_, _| {
        Reply::raw(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
    });
    let error = registry(&server, &options()).manifest(&app(&server)).unwrap_err().to_string();
    assert!(error.contains("TLS only") && error.contains("--ca"), "{error}");
}

#[test]
fn a_registry_that_is_not_there_is_told_after_all_attempts() {
    let server = Server::start(|_, _| Reply::status(200));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    drop(server);
    let (options, told) = watched();
    let reference = format!("{closed}/team/app:1").parse().unwrap();
    let registry = wisp_registry::Registry::of(&reference, &options).unwrap();
    let error = registry.manifest(&reference).unwrap_err().to_string();
    assert!(error.contains("cannot be reached"), "{error}");
    assert_eq!(told.waits.lock().unwrap().len(), 5);
}

#[test]
fn a_redirected_blob_is_fetched_without_the_registrys_login() {
    let store = Server::start(|_, _| Reply::ok(b"from the store"));
    let target = format!("http://{}/bucket/x?signature=a%2Fb", store.name());
    let server = Server::start(move |seen, _| match seen.header("authorization") {
        "" => Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], b""),
        _ => Reply::redirect(&target),
    });
    let options = crate::client::with_login("right");
    assert_eq!(pull(&server, &descriptor(b"from the store"), &options).1, Ok(()));
    let seen = store.seen();
    assert_eq!(seen[0].line, "GET /bucket/x?signature=a%2Fb");
    assert_eq!(seen[0].header("authorization"), "");
}

#[test]
fn a_store_that_asks_for_a_login_gets_none() {
    let store = Server::start(|_, _| Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], b""));
    let target = format!("http://{}/x", store.name());
    let server = Server::start(move |_, _| Reply::redirect(&target));
    let options = crate::client::with_login("right");
    assert!(pull(&server, &descriptor(b"x"), &options).1.is_err());
    assert!(store.seen().iter().all(|seen| seen.header("authorization").is_empty()));
}

#[test]
fn endless_redirects_and_those_to_no_web_address_are_refused() {
    for (target, words) in [
        ("/v2/again", "more than 10 times"),
        ("file:///etc/passwd", "to no address"),
        ("ftp://127.0.0.1/x", "\"ftp\", expected https"),
        ("http://[", "to no address"),
    ] {
        let server = Server::start(move |_, _| Reply::redirect(target));
        let error = pull(&server, &descriptor(b"x"), &options()).1.unwrap_err();
        assert!(error.contains(words), "{target}: {error}");
    }
}

#[test]
fn a_digest_that_cannot_be_checked_is_not_asked_for() {
    let server = Server::start(|_, _| Reply::ok(b"x"));
    let sha512 = format!("sha512:{}", "0".repeat(128)).parse::<oci_spec::image::Digest>().unwrap();
    let mut blob = descriptor(b"x");
    blob.set_digest(sha512);
    assert!(pull(&server, &blob, &options()).1.unwrap_err().contains("expected one of sha256"));
    assert!(server.seen().is_empty());
}

#[test]
fn a_disk_that_is_full_is_told_and_not_tried_again() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let server = Server::start(|_, _| Reply::ok(b"x"));
    let registry = registry(&server, &options());
    let error = registry.blob(&app(&server), &descriptor(b"x"), &mut Full).unwrap_err().to_string();
    assert!(error.contains("cannot be stored"), "{error}");
    assert_eq!(server.seen().len(), 1);
}
