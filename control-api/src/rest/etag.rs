//! `ETag` and `If-None-Match` of single things. `If-Match` is the rules': see `domain/versions.rs`.

use std::fmt::Debug;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::{entity_tags, versions};

/// A thing with its entity tag.
pub(super) struct Tagged<T>(String, axum::Json<T>);

impl<T> Tagged<T> {
    /// `row` is what the answer is made of.
    pub(super) fn of<R: Debug>(row: R, shape: impl FnOnce(R) -> T) -> Self {
        Self(versions::tag(&row), axum::Json(shape(row)))
    }

    /// As [`Self::of`], with a tag that is made otherwise.
    pub(super) fn with(tag: String, shaped: T) -> Self {
        Self(tag, axum::Json(shaped))
    }

    /// As [`Self::of`].
    pub(super) fn try_of<R: Debug, E>(row: R, shape: impl FnOnce(R) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self(versions::tag(&row), axum::Json(shape(row)?)))
    }
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let Self(tag, json) = self;
        let mut response = json.into_response();
        if let Ok(tag) = HeaderValue::try_from(tag) {
            response.headers_mut().insert(ETAG, tag);
        }
        response
    }
}

/// Sends nothing of what the client has.
pub(super) async fn not_modified(request: Request, next: Next) -> Response {
    let known: Vec<HeaderValue> = match *request.method() {
        Method::GET | Method::HEAD => request.headers().get_all(IF_NONE_MATCH).iter().cloned().collect(),
        _ => Vec::new(),
    };
    let mut response = next.run(request).await;
    let Some(tag) = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()) else { return response };
    let mut known = known.iter().filter_map(|line| line.to_str().ok());
    let same = known.any(|known| entity_tags::have(known, tag));
    if same && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(CONTENT_TYPE);
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response
}
