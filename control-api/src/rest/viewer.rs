//! `/docs`: a page that shows the OpenAPI document. All of it is in the binary, and it asks nobody else for anything.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderName;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::routing::{MethodRouter, get};

use crate::app::State;

/// Nothing but the page's own script and style, and the document.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/docs", file("text/html; charset=utf-8", include_str!("viewer/page.html")))
        .route("/docs/script.js", file("text/javascript; charset=utf-8", include_str!("viewer/script.js")))
        .route("/docs/style.css", file("text/css; charset=utf-8", include_str!("viewer/style.css")))
}

fn file(kind: &'static str, text: &'static str) -> MethodRouter<Arc<State>> {
    let headers: [(HeaderName, &str); 5] = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Another version of the server may have another one.
        (CACHE_CONTROL, "no-cache"),
    ];
    get(move || async move { (headers, text) })
}
