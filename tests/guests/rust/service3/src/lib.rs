//! An HTTP service on `wasi:http` 0.3: `/hello`, `/echo` (as a stream), `/env`, `/slow?ms`, `/trap`.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use wasip3::http::types::{self, ErrorCode};
use wasip3::http_compat::{IncomingRequestBody, http_from_wasi_request, http_into_wasi_response};

wasip3::http::service::export!(Service);

struct Service;

type Body = UnsyncBoxBody<Bytes, ErrorCode>;

impl wasip3::exports::http::handler::Guest for Service {
    async fn handle(request: types::Request) -> Result<types::Response, ErrorCode> {
        let response = serve(http_from_wasi_request(request)?).await;
        http_into_wasi_response(response)
    }
}

async fn serve(request: http::Request<IncomingRequestBody>) -> Response<Body> {
    let uri = request.uri().clone();
    match uri.path() {
        "/" | "/hello" => text("hello from Rust, wasi:http 0.3\n"),
        "/echo" => Response::new(request.into_body().boxed_unsync()),
        "/env" => {
            let variables = wasip3::cli::environment::get_environment();
            text(&variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect::<String>())
        }
        "/log" => {
            println!("{}", uri.query().unwrap_or_default());
            text("logged\n")
        }
        "/slow" => {
            let milliseconds: u64 = uri.query().and_then(|text| text.parse().ok()).unwrap_or(100);
            wasip3::clocks::monotonic_clock::wait_for(milliseconds * 1_000_000).await;
            text("slow\n")
        }
        "/trap" => die_while_serving(),
        _ => {
            let mut response = text("no such path\n");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

fn text(body: &str) -> Response<Body> {
    Response::new(
        Full::new(Bytes::copy_from_slice(body.as_bytes())).map_err(|never| match never {}).boxed_unsync(),
    )
}

#[inline(never)]
fn die_while_serving() -> ! {
    core::arch::wasm32::unreachable()
}
