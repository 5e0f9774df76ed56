//! An HTTP service on `wasi:http` 0.2: each path is one thing that a test wants a service to do.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::Write;

use futures_lite::stream::{iter, once_future, unfold};
use http_body_util::{BodyExt, StreamBody};
use wstd::http::body::{Body, Bytes, Frame};
use wstd::http::{Error, HeaderMap, Request, Response, StatusCode, Uri};
use wstd::time::Duration;

/// What one request leaves in memory and none after it may find.
const SECRET: &[u8] = b"a secret that is long enough to be found";

thread_local!(static REQUESTS: Cell<u32> = const { Cell::new(0) });

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let uri = request.uri().clone();
    REQUESTS.set(REQUESTS.get() + 1);
    match uri.path() {
        "/" | "/hello" => text("hello from Rust, wasi:http 0.2\n"),
        "/echo" => Ok(Response::new(request.into_body())),
        "/trailers" => trailers(request).await,
        "/grpc.health.v1.Health/Check" => healthy(),
        "/headers" => {
            let names: Vec<_> = request.headers().keys().map(|name| format!("{name}\n")).collect();
            text(&names.concat())
        }
        "/uri" => text(&format!("{uri}\n")),
        "/count" => text(&format!("{}\n", REQUESTS.get())),
        "/env" => {
            text(&std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect::<String>())
        }
        "/args" => text(&std::env::args().map(|arg| format!("{arg}\n")).collect::<String>()),
        "/cwd" => text(&format!("{}\n", wasip2::cli::environment::initial_cwd().unwrap_or_default())),
        "/file" => Ok(Response::new(std::fs::read(query(&uri))?.into())),
        "/log" => {
            println!("{}", query(&uri));
            eprintln!("{} (stderr)", query(&uri));
            text("logged\n")
        }
        "/slow" => {
            wstd::task::sleep(Duration::from_millis(query(&uri).parse()?)).await;
            text("slow\n")
        }
        "/drip" => drip(query(&uri).parse()?),
        "/large" => large(query(&uri).parse()?),
        "/trap" => die_while_serving(),
        "/loop" => spin(),
        "/compute" => text(&format!("{:016x}\n", compute(query(&uri).parse()?))),
        "/alloc" => allocate(query(&uri).parse()?),
        "/secret" => {
            let copies: Vec<Vec<u8>> = (0..1000).map(|_| SECRET.to_vec()).collect();
            text(&format!("{}\n", std::hint::black_box(copies).len()))
        }
        "/search" => text(&format!("{}\n", search())),
        _ => Ok(Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty())?),
    }
}

fn query(uri: &Uri) -> &str {
    uri.query().unwrap_or_default()
}

fn text(body: &str) -> Result<Response<Body>, Error> {
    Ok(Response::new(body.to_owned().into()))
}

/// The body of the request, then its trailers (or one that says that there were none).
async fn trailers(request: Request<Body>) -> Result<Response<Body>, Error> {
    let collected = request.into_body().into_boxed_body().collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_else(|| {
        HeaderMap::from_iter([("x-none".parse().expect("a name"), "1".parse().expect("a value"))])
    });
    let trailer_names: Vec<_> = trailers.keys().map(|name| name.as_str().to_owned()).collect();
    let body =
        StreamBody::new(once_future(async move { Ok::<_, Infallible>(Frame::<Bytes>::trailers(trailers)) }));
    // HTTP/1.1 sends only trailers that were announced.
    let names = trailer_names.join(", ");
    Ok(Response::builder().header("trailer", names).body(Body::from_http_body(body))?)
}

/// The answer of gRPC's health service: one message, whose field 1 says SERVING, and a trailer that says that all went well.
fn healthy() -> Result<Response<Body>, Error> {
    let frames = [
        Frame::data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1])),
        Frame::trailers(HeaderMap::from_iter([("grpc-status".parse()?, "0".parse()?)])),
    ];
    let body = StreamBody::new(iter(frames.map(Ok::<_, Infallible>)));
    Ok(Response::builder().header("content-type", "application/grpc").body(Body::from_http_body(body))?)
}

/// A line each tenth of a second.
fn drip(lines: u32) -> Result<Response<Body>, Error> {
    let body = move |left: u32| async move {
        let left = left.checked_sub(1)?;
        wstd::task::sleep(Duration::from_millis(100)).await;
        Some((Ok::<_, Infallible>(Bytes::from("drip\n")), left))
    };
    Ok(Response::new(Body::from_try_stream(unfold(lines, body))))
}

/// So many mebibytes.
fn large(mebibytes: u32) -> Result<Response<Body>, Error> {
    let body = |left: u32| async move {
        let left = left.checked_sub(1)?;
        Some((Ok::<_, Infallible>(Bytes::from(vec![b'x'; 64 << 10])), left))
    };
    Ok(Response::new(Body::from_try_stream(unfold(mebibytes * 16, body))))
}

#[inline(never)]
fn die_while_serving() -> ! {
    core::arch::wasm32::unreachable()
}

fn spin() -> ! {
    let mut turns = 0u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

/// So many steps, each of which needs the one before.
fn compute(steps: u64) -> u64 {
    (0..steps)
        .fold(1, |number: u64, step| (number ^ step).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}

/// Holds so many mebibytes while it answers.
fn allocate(mebibytes: usize) -> Result<Response<Body>, Error> {
    let mut block = Vec::new();
    if block.try_reserve_exact(mebibytes << 20).is_err() {
        return Ok(Response::builder().status(StatusCode::INSUFFICIENT_STORAGE).body(Body::empty())?);
    }
    block.resize(mebibytes << 20, 1u8);
    std::io::stdout().flush()?;
    text(&format!("{}\n", std::hint::black_box(block).len() >> 20))
}

/// How often the secret is anywhere in this instance's memory, the constant itself left out.
fn search() -> usize {
    let size = core::arch::wasm32::memory_size(0) << 16;
    let constant = SECRET.as_ptr() as usize;
    // The whole memory, word for word, as a hostile guest would look; volatile, for it is not this program's to read.
    let byte = |at: usize| {
        // SAFETY: every address below the memory's size can be read, and any byte is a u8.
        unsafe { (at as *const u8).read_volatile() }
    };
    (1024..size - SECRET.len())
        .filter(|&at| {
            at != constant && SECRET.iter().enumerate().all(|(index, &want)| byte(at + index) == want)
        })
        .count()
}
