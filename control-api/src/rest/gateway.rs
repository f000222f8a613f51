//! `/ipfs/{cid}`: the gateway, for edges and whoever may read. Not in the OpenAPI document: it is a protocol of its own
//! (<https://specs.ipfs.tech/http-gateways/>).

use af_content::gateway::{Gateway, GatewayBody, GatewayError, Request as Asked, Target};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use axum::routing::any;

use super::problem::Failure;

/// The gateway's paths.
pub(super) fn router<S: Clone + Send + Sync + 'static>(gateway: Gateway) -> Router<S> {
    let serve = any(move |request: Request| {
        let gateway = gateway.clone();
        async move {
            let path = request.uri().path().to_owned();
            respond(&gateway, &path, request).await
        }
    });
    Router::new().route("/ipfs/{*path}", serve.clone()).route("/ipns/{*path}", serve)
}

/// Answers a request as if it were for this path.
pub(super) async fn respond(
    gateway: &Gateway,
    path: &str,
    request: Request,
) -> Result<Response<Body>, Failure> {
    let answer = answer(gateway, path, request).await;
    answer.map(|answer| answer.map(Body::new)).map_err(Failure::Gateway)
}

async fn answer(
    gateway: &Gateway,
    path: &str,
    request: Request,
) -> Result<Response<GatewayBody>, GatewayError> {
    // Without the request's body, which could not be shared with other threads.
    let (parts, _body) = request.into_parts();
    let target = Target::of_path(path)?;
    let (query, headers) = (parts.uri.query(), &parts.headers);
    gateway.respond(Asked { method: &parts.method, target: &target, query, headers }).await
}
