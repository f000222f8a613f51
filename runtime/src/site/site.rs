//! One site and the way of a request to it: [`Site::respond`] reads top to bottom.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use af_content::serving::conditional::{self, Verdict};
use af_content::serving::path::FilePath;
use af_content::serving::range::{self, Unsatisfiable};
use af_contract::ContentId;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, ETAG, LOCATION, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use moka::sync::Cache;

use super::file::Sent;
use super::redirects::{self, FILE_BYTES, Outcome, Redirects, RedirectsError};
use super::tree::{Page, Place, Trail, Tree};
use super::{SiteError, file};
use crate::content::{ContentStore, ReadError, Reader};
use crate::http::ResponseBody;

/// The CID of the directory that answered.
const AF_SITE: HeaderName = HeaderName::from_static("af-site");

/// Where a site says what to answer for what it does not have.
const REDIRECTS: &str = "_redirects";

/// The page for what is not there.
const NOT_FOUND: &str = "404.html";

/// Parsed `_redirects` in memory, counted as their files' bytes: those of hundreds of sites.
const RULES_BYTES: u64 = 8 << 20;

type Rules = Arc<Result<Redirects, RedirectsError>>;

/// What all sites of a node share. Cheap to clone.
#[derive(Clone)]
pub struct Sites {
    reader: Reader,
    /// By the file's CID.
    rules: Cache<ContentId, Rules>,
}

/// A directory that is served. Cheap to make, and to keep.
pub struct Site {
    tree: Tree,
    rules: Cache<ContentId, Rules>,
    /// Its root.
    name: HeaderValue,
    naming: Naming,
}

/// What a site's host is named after, and so how long an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// A slug or a domain, which leads to another directory after the next deploy.
    Name,
    /// The directory's own CID.
    Cid,
}

/// What a request says of itself.
#[derive(Clone, Copy)]
struct Asked<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
}

impl Naming {
    fn caching(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Name => "public, max-age=0, must-revalidate",
            // A year, which caches take for ever.
            Self::Cid => "public, max-age=31536000, immutable",
        })
    }
}

impl Sites {
    /// Out of a store.
    #[must_use]
    pub fn new(content: ContentStore) -> Self {
        let weigher = |_: &ContentId, _: &Rules| u32::try_from(FILE_BYTES).unwrap_or(u32::MAX);
        let rules = Cache::builder().max_capacity(RULES_BYTES).weigher(weigher).build();
        Self { reader: Reader::new(content), rules }
    }

    /// The site with this root.
    #[must_use]
    pub fn site(&self, root: ContentId, naming: Naming) -> Site {
        let reader = match naming {
            Naming::Name => self.reader.clone(),
            // Strangers choose the CID: they must not make this node ask others for it.
            Naming::Cid => self.reader.here(),
        };
        Site {
            tree: Tree::new(root, reader),
            rules: self.rules.clone(),
            name: file::header(root.to_string()),
            naming,
        }
    }
}

impl Site {
    /// Answers a request whose path is one of the site's. Its body is not read.
    ///
    /// # Errors
    /// When there is nothing to send for it, not even a page of the site's own that says so.
    pub fn respond<B>(
        &self,
        request: &Request<B>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, SiteError>> + Send {
        // Without the request's body, which could not be shared with other threads.
        let asked = Asked { method: request.method(), uri: request.uri(), headers: request.headers() };
        self.answer(asked)
    }

    async fn answer(&self, asked: Asked<'_>) -> Result<Response<ResponseBody>, SiteError> {
        if !matches!(*asked.method, Method::GET | Method::HEAD) {
            return Err(SiteError::Method);
        }
        let path = FilePath::parse(asked.uri.path())?;
        let mut response = match self.find(&path).await? {
            Place::Page(page) => self.send(asked, &page, StatusCode::OK).await?,
            Place::Elsewhere(location, _) => {
                let location = redirects::with_query(location, asked.uri.query());
                elsewhere(StatusCode::MOVED_PERMANENTLY, location)
            }
            Place::Nowhere(trail) => self.without(asked, &path, trail).await?,
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, self.naming.caching());
        headers.insert(AF_SITE, self.name.clone());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok(response)
    }

    async fn find(&self, path: &FilePath<'_>) -> Result<Place, SiteError> {
        self.tree.find(path).await.map_err(|error| match error {
            // Nobody ever said that this CID is a site's, but whoever asks.
            ReadError::Missing(id) if self.naming == Naming::Cid && id == self.tree.root() => {
                SiteError::Unknown(id)
            }
            error => error.into(),
        })
    }

    /// Sends a file, or the part of it that is asked for, unless the client has it. Conditions and ranges are for
    /// what was found (RFC 9110 section 13.2.1), not for pages that stand for something else.
    async fn send(
        &self,
        asked: Asked<'_>,
        page: &Page,
        status: StatusCode,
    ) -> Result<Response<ResponseBody>, SiteError> {
        let sent = Sent::choose(&self.tree, page, asked.headers).await?;
        let size = sent.file.size;
        let wanted = if status == StatusCode::OK { wanted(asked, &sent)? } else { Wanted::Page };
        let mut response = Response::new(ResponseBody::full(""));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        // Also where there is no copy: the next deploy may bring one.
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        let range = match wanted {
            Wanted::Nothing(tag) => {
                headers.insert(ETAG, tag);
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                return Ok(response);
            }
            Wanted::Page => 0..size,
            Wanted::All => {
                headers.insert(ETAG, file::header(sent.tag().to_owned()));
                0..size
            }
            Wanted::Part(range) => {
                headers.insert(ETAG, file::header(sent.tag().to_owned()));
                sent.say_part(headers, &range);
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                range
            }
        };
        sent.describe(response.headers_mut(), &self.tree, page);
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        if asked.method == Method::GET {
            *response.body_mut() = sent.body(self.tree.reader(), range).await?;
        }
        Ok(response)
    }

    /// Answers for a path that leads nowhere: as `_redirects` says, else with the nearest page for such cases.
    async fn without(
        &self,
        asked: Asked<'_>,
        path: &FilePath<'_>,
        trail: Trail,
    ) -> Result<Response<ResponseBody>, SiteError> {
        match self.rule(path, asked.uri.query()).await? {
            Some(Outcome::Elsewhere(status, location)) => return Ok(elsewhere(status, location)),
            Some(Outcome::File(status, to)) => {
                if let Some(page) = self.rewritten(&to).await? {
                    return self.send(asked, &page, status).await;
                }
            }
            None => {}
        }
        for trail in trail.upwards() {
            if let Some(page) = self.tree.page(&trail, NOT_FOUND).await? {
                return self.send(asked, &page, StatusCode::NOT_FOUND).await;
            }
        }
        Err(SiteError::NotFound)
    }

    /// The file that a rule names; none when there is none.
    async fn rewritten(&self, to: &str) -> Result<Option<Page>, SiteError> {
        let Ok(path) = FilePath::parse(to) else { return Ok(None) };
        Ok(match self.tree.find(&path).await? {
            Place::Page(page) | Place::Elsewhere(_, page) => Some(page),
            Place::Nowhere(_) => None,
        })
    }

    async fn rule(&self, path: &FilePath<'_>, query: Option<&str>) -> Result<Option<Outcome>, SiteError> {
        let trail = self.tree.trail().await?;
        let Some(page) = self.tree.page(&trail, REDIRECTS).await? else { return Ok(None) };
        let rules = match self.rules.get(&page.file.id) {
            Some(known) => known,
            None => {
                let read = self.read_rules(&page).await?;
                self.rules.insert(page.file.id, read.clone());
                read
            }
        };
        match rules.as_ref() {
            Ok(rules) => Ok(rules.find(path, query)),
            Err(error) => Err(error.clone().into()),
        }
    }

    async fn read_rules(&self, page: &Page) -> Result<Rules, SiteError> {
        if page.file.size > FILE_BYTES {
            return Ok(Arc::new(Err(RedirectsError::TooLarge)));
        }
        let mut text = Vec::new();
        loop {
            let bytes = self.tree.reader().bytes(page.file, text.len() as u64).await?;
            if bytes.is_empty() {
                return Ok(Arc::new(Redirects::parse(&text)));
            }
            text.extend_from_slice(&bytes);
        }
    }
}

/// What of a file its client wants.
enum Wanted {
    /// Nothing: it has the file, under this tag.
    Nothing(HeaderValue),
    /// The file.
    All,
    /// These bytes of it.
    Part(Range<u64>),
    /// It asked for something else, and is sent this for an explanation.
    Page,
}

fn wanted(asked: Asked<'_>, sent: &Sent) -> Result<Wanted, SiteError> {
    match conditional::judge(asked.headers, sent.tag()) {
        Verdict::Failed => return Err(SiteError::Precondition),
        Verdict::NotModified(tag) => return Ok(Wanted::Nothing(tag)),
        Verdict::Send => {}
    }
    // Ranges are of GET only.
    if asked.method != Method::GET {
        return Ok(Wanted::All);
    }
    let size = sent.file.size;
    match range::wanted(conditional::range(asked.headers, sent.tag()), size) {
        Ok(range) => Ok(range.map_or(Wanted::All, Wanted::Part)),
        Err(Unsatisfiable) => Err(SiteError::Range { size }),
    }
}

fn elsewhere(status: StatusCode, location: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(""));
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, file::header(location));
    response
}
