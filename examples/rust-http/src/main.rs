//! An HTTP service: Wisp listens, and calls this for each request, in an instance of its own.

use wstd::http::{Body, Error, Request, Response};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let name = request.uri().path().trim_start_matches('/');
    let name = if name.is_empty() { "world" } else { name };
    Ok(Response::new(Body::from(format!("hello {name} from Rust\n"))))
}
