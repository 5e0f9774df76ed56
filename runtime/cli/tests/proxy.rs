//! Proxies, as the environment names them.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// A registry that has nothing and a proxy of such in one, which tells the first line that each connection says.
fn server() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (tell, told)) = (listener.local_addr().unwrap().to_string(), mpsc::channel());
    thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let line = head(&stream);
            if line.starts_with("CONNECT ") {
                (&stream).write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                head(&stream);
            }
            let answer = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            (&stream).write_all(answer).unwrap();
            tell.send(line).unwrap();
        }
    });
    (address, told)
}

/// The first line of a request, which is read to its end.
fn head(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().remove(0)
}

/// Pulls where `variables` name proxies; `PROXY` stands for a proxy's address.
fn pull(image: &str, proxy: &str, variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let variables = variables.iter().map(|(name, value)| (name, value.replace("PROXY", proxy)));
    Command::new(env!("CARGO_BIN_EXE_wisp"))
        .args(["pull", "--plain-http", image])
        .env_clear()
        .env("XDG_DATA_HOME", folder.path())
        .envs(variables)
        .output()
        .unwrap()
}

#[test]
fn a_registry_is_asked_through_the_proxy_that_the_environment_names() {
    for variable in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"] {
        let (proxy, asked) = server();
        let pulled = pull("registry.test/app:1", &proxy, &[(variable, "http://PROXY")]);
        assert_eq!(pulled.status.code(), Some(1), "{variable}: {pulled:?}");
        assert_eq!(asked.recv().unwrap(), "CONNECT registry.test:80 HTTP/1.1", "{variable}");
    }
}

#[test]
fn a_loopback_address_and_what_is_excepted_are_asked_without_a_proxy() {
    let ((proxy, asked), (registry, seen)) = (server(), server());
    // Which leads to this machine too, and is no loopback address.
    let other = registry.replace("127.0.0.1", "0.0.0.0");
    for (registry, excepted) in [(registry, ""), (other, "0.0.0.0")] {
        let variables = [("ALL_PROXY", "http://PROXY"), ("NO_PROXY", excepted)];
        let pulled = pull(&format!("{registry}/app:1"), &proxy, &variables);
        assert_eq!(pulled.status.code(), Some(1), "{registry}: {pulled:?}");
        assert!(seen.recv().unwrap().starts_with("GET /v2/app/manifests/1 "), "{registry}");
    }
    assert!(asked.try_recv().is_err());
}
