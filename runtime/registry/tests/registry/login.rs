//! Logins: what is sent where, and what is said when it is wrong.

use std::fs;

use oci_spec::image::MediaType;
use wisp_registry::{Credential, Credentials, Options};

use crate::client::{app, descriptor, digest, options, pull, registry, with_login};
use crate::server::{Reply, Seen, Server};

/// `ada:right` in base64.
const RIGHT: &str = "Basic YWRhOnJpZ2h0";

fn query(seen: &Seen) -> Vec<(String, String)> {
    let (_, query) = seen.line.split_once('?').unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// A registry that wants the token `t` from a token server.
fn registry_with_tokens(realm: String) -> Server {
    Server::start(move |seen, _| match seen.header("authorization") {
        "Bearer t" => Reply::ok(b"content"),
        _ => {
            let challenge =
                format!(r#"Bearer realm="{realm}",service="the registry",scope="repository:team/app:pull""#);
            Reply::new(401, &[("WWW-Authenticate", &challenge)], br#"{"errors":[{"code":"UNAUTHORIZED"}]}"#)
        }
    })
}

fn token_server() -> Server {
    Server::start(|seen, _| match seen.header("authorization") {
        "" | RIGHT => Reply::ok(br#"{"token": "t", "expires_in": 60}"#),
        _ => Reply::status(401),
    })
}

#[test]
fn a_token_is_fetched_once_with_the_login() {
    let tokens = token_server();
    let server = registry_with_tokens(format!("http://{}/token", tokens.name()));
    let registry = registry(&server, &with_login("right"));
    for _ in 0..3 {
        registry.blob(&app(&server), &descriptor(b"content"), &mut Vec::new()).unwrap();
    }
    let seen = tokens.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("authorization"), RIGHT);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(query(&seen[0]), [pair("service", "the registry"), pair("scope", "repository:team/app:pull")]);
    assert!(server.seen().iter().all(|seen| !seen.header("authorization").contains("Basic")));
}

#[test]
fn a_token_is_fetched_without_a_login_where_there_is_none() {
    let tokens = token_server();
    let server = registry_with_tokens(format!("http://{}/token", tokens.name()));
    assert_eq!(pull(&server, &descriptor(b"content"), &options()).1, Ok(()));
    assert_eq!(tokens.seen()[0].header("authorization"), "");
}

#[test]
fn a_token_that_ran_out_is_fetched_anew() {
    let tokens =
        Server::start(|_, before| Reply::ok(format!(r#"{{"access_token": "t{before}"}}"#).as_bytes()));
    let realm = format!("http://{}/token", tokens.name());
    let server = Server::start(move |seen, before| match (before, seen.header("authorization")) {
        (1, "Bearer t0") | (3, "Bearer t1") => Reply::ok(b"content"),
        _ => Reply::new(401, &[("WWW-Authenticate", &format!("Bearer realm=\"{realm}\""))], b""),
    });
    let registry = registry(&server, &options());
    for _ in 0..2 {
        registry.blob(&app(&server), &descriptor(b"content"), &mut Vec::new()).unwrap();
    }
}

#[test]
fn an_identity_token_is_exchanged_by_post() {
    let tokens = Server::start(|seen, _| match seen.line.as_str() {
        "POST /token" => Reply::ok(br#"{"access_token": "t"}"#),
        _ => Reply::status(405),
    });
    let server = registry_with_tokens(format!("http://{}/token", tokens.name()));
    let credential = Some(Credential::Identity("the identity".to_owned()));
    assert_eq!(pull(&server, &descriptor(b"content"), &Options { credential, ..options() }).1, Ok(()));
    let form: Vec<(String, String)> =
        url::form_urlencoded::parse(&tokens.seen()[0].body).into_owned().collect();
    assert!(form.contains(&("refresh_token".to_owned(), "the identity".to_owned())), "{form:?}");
    assert!(form.contains(&("grant_type".to_owned(), "refresh_token".to_owned())), "{form:?}");
}

#[test]
fn a_wrong_password_or_none_says_how_to_log_in() {
    let tokens = token_server();
    let by_token = registry_with_tokens(format!("http://{}/token", tokens.name()));
    let basic = Server::start(|_, _| Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], b""));
    for (server, options) in
        [(&by_token, with_login("wrong")), (&basic, with_login("wrong")), (&basic, options())]
    {
        let error = pull(server, &descriptor(b"content"), &options).1.unwrap_err();
        assert!(error.contains(&format!("`wisp login {}`", server.name())), "{error}");
        assert!(!error.contains("wrong"), "{error}");
    }
}

#[test]
fn a_token_server_without_tls_is_not_told_the_password() {
    let tokens = token_server();
    // A name that is not loopback's, so that the registry is.
    let server = registry_with_tokens(format!("http://{}@tokens.invalid/token", tokens.name()));
    let error = pull(&server, &descriptor(b"content"), &with_login("right")).1.unwrap_err();
    assert!(error.contains("expected https://"), "{error}");
    assert!(tokens.seen().is_empty());
}

#[test]
fn a_token_server_that_redirects_elsewhere_takes_no_password_along() {
    let elsewhere = Server::start(|_, _| Reply::ok(br#"{"token": "t"}"#));
    let target = format!("http://{}/", elsewhere.name());
    let tokens = Server::start(move |_, _| Reply::redirect(&target));
    let server = registry_with_tokens(format!("http://{}/token", tokens.name()));
    assert_eq!(pull(&server, &descriptor(b"content"), &with_login("right")).1, Ok(()));
    assert_eq!(tokens.seen()[0].header("authorization"), RIGHT);
    assert_eq!(elsewhere.seen()[0].header("authorization"), "");
}

#[test]
fn answers_of_token_servers_that_are_none_are_told() {
    let too_long = format!(r#"{{"token": "{}"}}"#, "x".repeat(2 << 20));
    for body in ["", "[]", "{}", r#"{"token": ""}"#, r#"{"token": "a\nb"}"#, too_long.as_str()] {
        let body = body.to_owned();
        let tokens = Server::start(move |_, _| Reply::ok(body.as_bytes()));
        let server = registry_with_tokens(format!("http://{}/token", tokens.name()));
        let error = pull(&server, &descriptor(b"content"), &options()).1.unwrap_err();
        assert!(error.contains("its token"), "{error}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn a_challenge_of_another_kind_is_told() {
    for challenge in ["Negotiate", "", "Bearer service=\"x\"", "Bearer realm=\"ftp://x\"", "\"\",,=,"] {
        let server = Server::start(move |_, _| Reply::new(401, &[("WWW-Authenticate", challenge)], b""));
        let error = pull(&server, &descriptor(b"content"), &with_login("right")).1.unwrap_err();
        assert!(error.contains("not followed"), "{challenge}: {error}");
    }
}

#[test]
fn a_login_is_taken_from_the_files() {
    let server = Server::start(|seen, _| match seen.header("authorization") {
        RIGHT => Reply::ok(b"content"),
        _ => Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], b""),
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    fs::write(&path, format!(r#"{{"auths": {{"{}": {{"auth": "YWRhOnJpZ2h0"}}}}}}"#, server.name())).unwrap();
    let options = Options { credentials: Credentials::in_files(&[&path]), ..options() };
    assert_eq!(pull(&server, &descriptor(b"content"), &options).1, Ok(()));
    registry(&server, &options).check().unwrap();
}

#[test]
fn a_push_asks_for_the_right_to_push_and_to_mount() {
    let tokens = token_server();
    let realm = format!("http://{}/token", tokens.name());
    let promised = digest(b"{}");
    let server = Server::start(move |seen, _| {
        let challenge = format!("Bearer realm=\"{realm}\"");
        match (seen.header("authorization"), seen.line.split(' ').next().unwrap()) {
            ("Bearer t", "HEAD") => Reply::status(404),
            ("Bearer t", _) => Reply::new(201, &[("Docker-Content-Digest", &promised)], b""),
            _ => Reply::new(401, &[("WWW-Authenticate", &challenge)], b""),
        }
    });
    let registry = registry(&server, &with_login("right"));
    let open = || Ok(Box::new(&b"{}"[..]) as Box<dyn std::io::Read>);
    registry.push_blob(&app(&server), &descriptor(b"{}"), &open, Some("team/base")).unwrap();
    registry.push_manifest(&app(&server), &MediaType::ImageManifest, b"{}").unwrap();
    let scopes: Vec<Vec<String>> =
        tokens.seen().iter().map(|seen| query(seen).into_iter().map(|(_, value)| value).collect()).collect();
    assert_eq!(
        scopes,
        [
            vec!["repository:team/app:pull,push", "repository:team/base:pull"],
            vec!["repository:team/app:pull,push"]
        ]
    );
}
