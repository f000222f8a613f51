//! `RateLimit-Policy` and `RateLimit`: what a client may ask, and what is left of it (draft-ietf-httpapi-ratelimit-headers-10),
//! as the edge says it of functions.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::standings::Standing;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Tells the client where it stands; nothing where nothing was counted.
pub(super) fn tell(standings: &[Standing], headers: &mut HeaderMap) {
    if standings.is_empty() {
        return;
    }
    let list = |item: fn(&Standing) -> String| standings.iter().map(item).collect::<Vec<_>>().join(", ");
    let policies = list(|Standing { whose, quota, window, .. }| format!("\"{whose}\";q={quota};w={window}"));
    let limits =
        list(|Standing { whose, remaining, reset, .. }| format!("\"{whose}\";r={remaining};t={reset}"));
    for (header, text) in [(RATELIMIT_POLICY, policies), (RATELIMIT, limits)] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(header, value);
        }
    }
}
