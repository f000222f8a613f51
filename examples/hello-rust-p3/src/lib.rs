//! The smallest function for WASI 0.3: async, with the types of the `http` crate.

use http::header::CONTENT_TYPE;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::http_compat::{http_from_wasi_request, http_into_wasi_response};

wasip3::http::service::export!(Hello);

struct Hello;

impl Guest for Hello {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let _request = http_from_wasi_request(request)?;
        let response = http::Response::builder()
            .header(CONTENT_TYPE, "text/plain")
            .body("Hello from Rust and WASI 0.3!\n".to_owned())
            .map_err(|error| ErrorCode::InternalError(Some(error.to_string())))?;
        http_into_wasi_response(response)
    }
}
