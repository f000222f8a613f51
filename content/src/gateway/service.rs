//! One request from its path to its answer: [`Gateway::respond`] reads top to bottom.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::header::{
    ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_LOCATION,
    CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LOCATION, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::{self, GatewayBody, Shared};
use super::error::DagError;
use super::format::{Choice, Format, Parameters};
use super::headers::{self, IPFS_PATH, IPFS_ROOTS};
use super::plan::{Content, Plan, Sending, plan};
use super::target::{Style, Target};
use super::{Access, GatewayError};
use crate::DiskStore;
use crate::serving::conditional::{self, Verdict};
use crate::serving::media_type;
use crate::serving::range::{self, Unsatisfiable};

/// Answers that are made or sent at the same time, each with 3 MiB of blocks in memory, and 40 MiB where the DAG is huge.
const PLACES: usize = 64;

/// How long a request may wait for a place.
const WAIT: Duration = Duration::from_secs(1);

/// A page asks for a script that would control all below its path.
const SERVICE_WORKER: HeaderName = HeaderName::from_static("service-worker");

/// Serves what is in a store. Cheap to clone; all clones share their places.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    store: DiskStore,
    access: Access,
    places: Arc<Semaphore>,
    readers: Arc<Semaphore>,
}

/// A request. Its body is not read.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a Method,
    /// What it names.
    pub target: &'a Target,
    /// Of its URL.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
}

impl Gateway {
    /// Of what is in `store`, for those who may.
    #[must_use]
    pub fn new(store: DiskStore, access: Access) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let places = Arc::new(Semaphore::new(PLACES));
        // The rest of the cores is left to others.
        let readers = Arc::new(Semaphore::new(cores.div_ceil(2)));
        Self { inner: Arc::new(Inner { store, access, places, readers }) }
    }

    /// Whether a request with these headers may read here.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), GatewayError> {
        self.inner.access.check(headers)
    }

    /// Lets pages of all origins read an answer that somebody else made for this gateway.
    pub fn share(&self, headers: &mut HeaderMap) {
        if !self.inner.access.is_public() {
            headers.insert(CACHE_CONTROL, headers::caching(false, false));
        }
        headers::share(headers);
    }

    /// Answers a request.
    ///
    /// # Errors
    /// When there is nothing to send; [`GatewayError::status`] and [`GatewayError::explain`] say what to send instead.
    pub async fn respond(&self, request: Request<'_>) -> Result<Response<GatewayBody>, GatewayError> {
        if request.method == Method::OPTIONS {
            return Ok(preflight());
        }
        self.check(request.headers)?;
        request.judge()?;
        let parameters = Parameters::parse(request.query);
        let choice = parameters.choose(request.headers)?;
        let place = self.place().await?;
        let mut sending = match self.plan(request, &choice.format).await? {
            Plan::Elsewhere(location) => return Ok(elsewhere(location, request.query)),
            Plan::Send(sending) => *sending,
        };
        if let (Format::Files, Some(name)) = (&choice.format, parameters.filename.as_deref()) {
            sending.media_type = media_type::of(&[name]);
        }
        let wanted = sending.wanted(request)?;
        let mut response = Response::new(GatewayBody::here(""));
        self.describe(&mut response, &sending, request, &choice);
        if let Wanted::Nothing(tag) = wanted {
            response.headers_mut().insert(ETAG, tag);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        let disposition = headers::disposition(&parameters, sending.filename.as_deref());
        response.headers_mut().extend(disposition.map(|value| (CONTENT_DISPOSITION, value)));
        self.send(request, response, sending, wanted, place).await
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, GatewayError> {
        let place = tokio::time::timeout(WAIT, self.inner.places.clone().acquire_owned()).await;
        place.map_err(|_| GatewayError::Busy)?.map_err(|_| GatewayError::Busy)
    }

    async fn plan(&self, request: Request<'_>, format: &Format) -> Result<Plan, GatewayError> {
        let turn = self.inner.readers.acquire().await.map_err(|_| DagError::Interrupted)?;
        let (store, target, format) = (self.inner.store.clone(), request.target.clone(), format.clone());
        let planned = tokio::task::spawn_blocking(move || plan(store, &target, &format)).await;
        drop(turn);
        planned.map_err(|_| DagError::Interrupted)?.map_err(|error| match error {
            // Nothing is ever fetched, so this asks no more than it gets anyway; the specification has a status for it.
            GatewayError::Missing(id) if request.target.root == id && request.only_if_cached() => {
                GatewayError::NotCached
            }
            error => error,
        })
    }

    /// What holds for an answer whether its bytes are sent or not.
    fn describe(
        &self,
        response: &mut Response<GatewayBody>,
        sending: &Sending,
        request: Request<'_>,
        choice: &Choice,
    ) {
        let headers = response.headers_mut();
        headers::share(headers);
        let public = self.inner.access.is_public();
        headers.insert(CACHE_CONTROL, headers::caching(public, sending.generated));
        headers.insert(VARY, HeaderValue::from_static("accept"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        put(headers, ETAG, sending.tag.clone());
        put(headers, IPFS_PATH, request.target.written.clone());
        put(headers, IPFS_ROOTS, sending.roots.clone());
        if choice.format != Format::Files && request.headers.contains_key(ACCEPT) {
            put(headers, CONTENT_LOCATION, request.location(&choice.missing));
        }
    }

    async fn send(
        &self,
        request: Request<'_>,
        mut response: Response<GatewayBody>,
        sending: Sending,
        wanted: Wanted,
        place: OwnedSemaphorePermit,
    ) -> Result<Response<GatewayBody>, GatewayError> {
        let headers = response.headers_mut();
        let size = sending.content.size();
        let ranges = if sending.has_ranges() { "bytes" } else { "none" };
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static(ranges));
        let mut range = 0..size.unwrap_or(u64::MAX);
        if let Wanted::Part(part) = wanted {
            let last = part.end.saturating_sub(1);
            put(headers, CONTENT_RANGE, format!("bytes {}-{last}/{}", part.start, size.unwrap_or_default()));
            range = part;
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        let length = size.map(|_| range.end - range.start);
        response.headers_mut().extend(length.map(|length| (CONTENT_LENGTH, HeaderValue::from(length))));
        let (from_start, unnamed) = (range.start == 0, media_type::is_unknown(&sending.media_type));
        let mut media_type = sending.media_type;
        // The first block is read here, so that what is wrong with it becomes a status.
        let pieces = sending.content.pieces(range);
        let (pieces, first) = body::made(pieces, &self.inner.readers).await?;
        // What its name does not tell, its first bytes may.
        if unnamed && from_start && first.front().is_some_and(|bytes| headers::is_text(bytes)) {
            media_type = media_type::PLAIN;
        }
        self.frame(&mut response, media_type, request.target.style());
        if request.method == Method::GET {
            let shared = Shared { place, readers: self.inner.readers.clone() };
            *response.body_mut() = GatewayBody::coming(first, pieces, length, shared);
        }
        Ok(response)
    }

    fn frame(&self, response: &mut Response<GatewayBody>, media_type: HeaderValue, style: Style) {
        let headers = response.headers_mut();
        if style == Style::Path {
            headers.extend(headers::confinement(&media_type).map(|value| (CONTENT_SECURITY_POLICY, value)));
        }
        headers.insert(CONTENT_TYPE, media_type);
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("access", &self.inner.access).finish_non_exhaustive()
    }
}

/// What of an answer its client wants.
enum Wanted {
    /// Nothing: it has it, under this tag.
    Nothing(HeaderValue),
    All,
    Part(Range<u64>),
}

impl Sending {
    fn has_ranges(&self) -> bool {
        !self.generated && !matches!(self.content, Content::Car(..))
    }

    fn wanted(&self, request: Request<'_>) -> Result<Wanted, GatewayError> {
        match conditional::judge(request.headers, &self.tag) {
            Verdict::Failed => return Err(GatewayError::Precondition),
            Verdict::NotModified(tag) => return Ok(Wanted::Nothing(tag)),
            Verdict::Send => {}
        }
        let Some(size) = self.content.size().filter(|_| self.has_ranges() && request.method == Method::GET)
        else {
            return Ok(Wanted::All);
        };
        // Of several ranges, the first: the gateways' test suite wants one at least.
        let first = conditional::range(request.headers, &self.tag)
            .and_then(|all| all.split(|byte| *byte == b',').next());
        match range::wanted(first, size) {
            Ok(range) => Ok(range.map_or(Wanted::All, Wanted::Part)),
            Err(Unsatisfiable) => Err(GatewayError::Range(size)),
        }
    }
}

impl Request<'_> {
    /// Judges what does not depend on the content.
    fn judge(&self) -> Result<(), GatewayError> {
        if !matches!(*self.method, Method::GET | Method::HEAD) {
            return Err(GatewayError::Method);
        }
        let worker = self.headers.get(SERVICE_WORKER).is_some_and(|value| value.as_bytes() == b"script");
        // It would control the content of others.
        if worker && self.target.names.is_empty() && !self.target.slash {
            return Err(GatewayError::ServiceWorker);
        }
        Ok(())
    }

    fn only_if_cached(&self) -> bool {
        let values = self.headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|said| said.trim().eq_ignore_ascii_case("only-if-cached"))
    }

    /// A URL that says all that the headers said.
    fn location(&self, missing: &str) -> String {
        let path = match self.target.style() {
            Style::Path => self.target.written.as_str(),
            Style::Host => self.target.below(),
        };
        let query = [self.query.unwrap_or_default(), missing];
        let query: Vec<&str> = query.into_iter().filter(|part| !part.is_empty()).collect();
        format!("{path}?{}", query.join("&"))
    }
}

fn preflight() -> Response<GatewayBody> {
    let mut response = Response::new(GatewayBody::here(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    headers::share(response.headers_mut());
    response
}

fn elsewhere(mut location: String, query: Option<&str>) -> Response<GatewayBody> {
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    let mut response = Response::new(GatewayBody::here(""));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    headers::share(response.headers_mut());
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    put(response.headers_mut(), LOCATION, location);
    response
}

/// Adds a header of what was in a URL, or was made for one, and so can be one.
fn put(headers: &mut HeaderMap, name: HeaderName, text: String) {
    headers.extend(HeaderValue::try_from(text).map(|value| (name, value)));
}
