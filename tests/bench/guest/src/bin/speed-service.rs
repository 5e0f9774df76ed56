//! The same as a service: `/run?NAME` runs one program.

use wstd::http::body::Body;
use wstd::http::{Error, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let name = request.uri().query().unwrap_or_default();
    match (request.uri().path(), speed::run(name)) {
        ("/hello", _) => Ok(Response::new("hello\n".to_owned().into())),
        (_, Some((milliseconds, checksum))) => {
            Ok(Response::new(format!("{name} {milliseconds:.3} {checksum:x}\n").into()))
        }
        _ => Ok(Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty())?),
    }
}
