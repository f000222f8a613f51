//! `wasi:http` outgoing requests. There is no egress policy yet, so every request is refused: a guest
//! gets `HTTP-request-denied`.

use std::future::Future;

use http::{Request, Response};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

type Transfer = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Box<dyn Future<Output = Result<(Response<WasiBody>, Transfer), Error>> + Send>;

/// Where a guest's requests go.
pub struct Outbound;

impl WasiHttpHooks for Outbound {
    fn send_request(&mut self, _: Request<WasiBody>, _: Option<RequestOptions>, _: Transfer) -> Sent {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }
}
