//! Answers browsers for a function whose deployment says which pages may call it (the CORS protocol of the Fetch standard).

use ::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use af_contract::Cors;

use super::body::ResponseBody;

/// What pages may do unless the rule lists methods.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// What the headers of one response say.
pub struct Grant {
    origin: Option<HeaderValue>,
    credentials: bool,
    exposed: Option<HeaderValue>,
    /// Whether another origin would have got another answer.
    varies: bool,
}

impl Grant {
    /// For the page that a request says it is from.
    pub fn new(cors: &Cors, request: &HeaderMap) -> Self {
        let origin = if cors.allows_any() {
            Some(HeaderValue::from_static("*"))
        } else {
            let allowed = |origin: &&HeaderValue| origin.to_str().is_ok_and(|text| cors.allows(text));
            request.get(ORIGIN).filter(allowed).cloned()
        };
        Self {
            origin,
            credentials: cors.credentials(),
            exposed: list(cors.exposed_headers()),
            varies: !cors.allows_any(),
        }
    }

    /// In place of what the function said, which would allow more or less than its deployment.
    pub fn apply(self, headers: &mut HeaderMap) {
        for name in
            [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_EXPOSE_HEADERS]
        {
            headers.remove(name);
        }
        if self.varies {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        let Some(origin) = self.origin else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(exposed) = self.exposed {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }
}

/// The answer to a browser that asks whether it may send a request, if this is such a question. The caller adds the
/// [`Grant`].
pub fn preflight<B>(cors: &Cors, request: &Request<B>) -> Option<Response<ResponseBody>> {
    let asked = request.headers();
    if request.method() != Method::OPTIONS
        || !asked.contains_key(ORIGIN)
        || !asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    {
        return None;
    }
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let methods = list(cors.methods()).unwrap_or(HeaderValue::from_static(METHODS));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    let allowed = list(cors.headers()).or_else(|| {
        headers.append(VARY, HeaderValue::from_name(ACCESS_CONTROL_REQUEST_HEADERS));
        asked.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|names| are_names(names)).cloned()
    });
    if let Some(allowed) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    if let Some(seconds) = cors.max_age() {
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds));
    }
    Some(response)
}

fn list(names: &[String]) -> Option<HeaderValue> {
    if names.is_empty() { None } else { HeaderValue::try_from(names.join(", ")).ok() }
}

/// Whether what goes back is what it is meant for.
fn are_names(value: &HeaderValue) -> bool {
    value.as_bytes().split(|byte| *byte == b',').all(|name| HeaderName::from_bytes(name.trim_ascii()).is_ok())
}
