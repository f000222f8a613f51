//! Compresses responses (br, zstd, gzip) for clients that accept it: what is worth it, at the lowest effort, and no more
//! at once than fit into memory.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, VARY,
};
use ::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use bytes::Bytes;
use futures::FutureExt;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::CompressionLevel;
use tower_http::compression::{Compression, CompressionBody};
use tower_service::Service;

use super::body::{BodyError, ResponseBody};
use crate::sandbox::GuestError;

/// What is shorter fits into a packet as it is.
const LEAST_BYTES: u64 = 1024;

/// Bodies that stream while they are compressed. A compressor may have a megabyte; further responses go out as they are.
const STREAMS: usize = 256;

/// Compresses. Cheap to clone.
#[derive(Clone)]
pub struct Compressor {
    places: Arc<Semaphore>,
}

impl Default for Compressor {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(STREAMS)) }
    }
}

/// A compressed body that is made while it is sent.
pub struct Compressed {
    body: Pin<Box<CompressionBody<ResponseBody>>>,
    _place: OwnedSemaphorePermit,
}

impl Compressor {
    /// The response as a client with these request headers should get it: compressed where that is worth it and
    /// allowed, else as it is.
    #[must_use]
    pub fn compress(
        &self,
        accept: &HeaderMap,
        mut response: Response<ResponseBody>,
    ) -> Response<ResponseBody> {
        if !is_worth_it(&response) {
            return response;
        }
        if !varies(response.headers()) {
            response.headers_mut().append(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
        }
        if !accept.contains_key(ACCEPT_ENCODING) {
            return response;
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else { return response };
        let compressed = negotiate(accept, response);
        if !compressed.headers().contains_key(CONTENT_ENCODING) {
            return compressed.map(CompressionBody::into_inner);
        }
        finish(compressed, place)
    }
}

/// Through tower's compression, which is made to stand around a service: here around a response that is there.
fn negotiate(
    accept: &HeaderMap,
    response: Response<ResponseBody>,
) -> Response<CompressionBody<ResponseBody>> {
    let status = response.status();
    let mut request = Request::new(());
    for value in accept.get_all(ACCEPT_ENCODING) {
        request.headers_mut().append(ACCEPT_ENCODING, value.clone());
    }
    let always = |_: StatusCode, _: ::http::Version, _: &HeaderMap, _: &::http::Extensions| true;
    let mut service =
        Compression::new(Once(Some(response))).quality(CompressionLevel::Fastest).compress_when(always);
    let Some(Ok(mut response)) = service.call(request).now_or_never() else {
        // A service that is ready gives what it has at once.
        return Response::new(CompressionBody::default());
    };
    // A client that accepts nothing gets what there is, not another status.
    *response.status_mut() = status;
    response
}

fn finish(
    response: Response<CompressionBody<ResponseBody>>,
    place: OwnedSemaphorePermit,
) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(ACCEPT_RANGES);
    if let Some(etag) = parts.headers.get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/")) {
        // The same content, but not the same bytes (RFC 9110, section 8.8.1).
        let weak = [b"W/", etag.as_bytes()].concat();
        if let Ok(weak) = HeaderValue::from_bytes(&weak) {
            parts.headers.insert(ETAG, weak);
        }
    }
    let complete = body.get_ref().is_complete();
    let mut body = Box::pin(body);
    // What is here is compressed here, so that the client learns its length.
    let body = match complete.then(|| body.as_mut().collect().now_or_never()).flatten() {
        Some(Ok(all)) => ResponseBody::full(all.to_bytes()),
        _ => ResponseBody::Compressed(Box::new(Compressed { body, _place: place })),
    };
    Response::from_parts(parts, body)
}

impl Compressed {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.body.as_mut().poll_frame(cx).map_err(|error| match error.downcast::<BodyError>() {
            Ok(error) => *error,
            Err(error) => GuestError::Http(error.to_string()).into(),
        })
    }
}

fn is_worth_it(response: &Response<ResponseBody>) -> bool {
    let headers = response.headers();
    let status = response.status();
    let bodiless = status.is_informational()
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED, StatusCode::PARTIAL_CONTENT].contains(&status);
    let long = response.body().size_hint().exact().is_none_or(|length| length >= LEAST_BYTES);
    !bodiless
        && long
        && !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(CONTENT_RANGE)
        && !mentions(headers, &CACHE_CONTROL, "no-transform")
        && headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(is_compressible)
}

/// Text in its many forms. Pictures, sound and archives are compressed already; events are to arrive one by one.
fn is_compressible(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "text/event-stream" {
        return false;
    }
    let known = [
        "application/json",
        "application/javascript",
        "application/xml",
        "application/wasm",
        "application/manifest+json",
        "application/x-ndjson",
        "application/x-javascript",
        "application/graphql-response+json",
        "image/svg+xml",
        "image/bmp",
        "font/ttf",
        "font/otf",
    ];
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || known.contains(&kind.as_str())
}

fn varies(headers: &HeaderMap) -> bool {
    mentions(headers, &VARY, "accept-encoding") || mentions(headers, &VARY, "*")
}

/// Whether a header's list has a word.
fn mentions(headers: &HeaderMap, name: &::http::HeaderName, word: &str) -> bool {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|found| found.trim().eq_ignore_ascii_case(word))
}

/// A service that answers once.
struct Once(Option<Response<ResponseBody>>);

impl Service<Request<()>> for Once {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(self.0.take().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests;
