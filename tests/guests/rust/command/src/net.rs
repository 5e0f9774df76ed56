//! Sockets and names. WASI 0.1 has none of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use crate::Outcome;

/// Connects, sends a line and prints what comes back until the other side closes.
pub(crate) fn connect(address: &str, text: &str) -> Outcome {
    let mut stream = TcpStream::connect(address)?;
    println!("connected");
    writeln!(stream, "{text}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    print!("{answer}");
    Ok(())
}

/// Takes one connection and gives back what it sends until it closes its side.
pub(crate) fn listen(address: &str) -> Outcome {
    let listener = TcpListener::bind(address)?;
    println!("listening");
    let (mut stream, _) = listener.accept()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    stream.write_all(&text)?;
    Ok(())
}

/// Sends a datagram and prints the answer.
pub(crate) fn datagram(address: &str, text: &str) -> Outcome {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.send_to(text.as_bytes(), address)?;
    let mut answer = [0; 1500];
    let (length, _) = socket.recv_from(&mut answer)?;
    println!("{}", String::from_utf8_lossy(&answer[..length]));
    Ok(())
}

/// The addresses of a name, in order.
pub(crate) fn resolve(name: &str) -> Outcome {
    let mut addresses: Vec<_> =
        (name, 0).to_socket_addrs()?.map(|address| address.ip().to_string()).collect();
    addresses.sort();
    addresses.dedup();
    addresses.iter().for_each(|address| println!("{address}"));
    Ok(())
}

/// Gets a page through `wasi:http/outgoing-handler`.
#[cfg(all(target_os = "wasi", target_env = "p2"))]
pub(crate) fn fetch(url: &str) -> Outcome {
    use wstd::http::{Body, Client, Request};
    wstd::runtime::block_on(async {
        let response = Client::new().send(Request::get(url).body(Body::empty())?).await?;
        println!("{}", response.status().as_u16());
        let mut body = response.into_body();
        print!("{}", String::from_utf8_lossy(body.contents().await?));
        Ok(())
    })
}

/// There is no such interface elsewhere.
#[cfg(not(all(target_os = "wasi", target_env = "p2")))]
pub(crate) fn fetch(_url: &str) -> Outcome {
    Err("only the WASI 0.2 build has outgoing HTTP".into())
}
