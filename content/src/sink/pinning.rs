//! A pinning service (<https://ipfs.github.io/pinning-services-api-spec/>, version 1.0.0): it is told a CID and where to
//! get it, gets it by itself, and is asked until it has.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::http::{Remote, answer, refused, told};
use super::{Held, Pin, Sink, SinkError, State, Token};

/// Pins of one page; a CID is rarely pinned twice.
const PAGE: usize = 10;

/// Pages read at most.
const PAGES: usize = 10;

/// Characters of a name; of the API.
const NAME: usize = 255;

/// Of a pin that waits, where nobody can connect with this node.
const UNREACHABLE: &str = "the service was told no address to get the blocks from; the server's operator can give it one with \
                           --bitswap-listen and --bitswap-serve anyone, or with --pin-origin";

/// A pinning service.
pub struct Pinning {
    remote: Remote,
    origins: Vec<String>,
    connect: Option<Connect>,
}

/// Has this node connect with those peers, as the service wants, and returns when it was told so.
pub type Connect = Arc<dyn Fn(Vec<String>) -> BoxFuture<'static, ()> + Send + Sync>;

/// What the service says of a pin.
#[derive(Debug, Deserialize)]
struct Status {
    requestid: String,
    status: String,
    created: String,
    /// Peers of the service that are to be connected with, so that it gets the blocks.
    #[serde(default)]
    delegates: Vec<String>,
    #[serde(default)]
    info: serde_json::Value,
}

/// A page of pins, newest first.
#[derive(Debug, Deserialize)]
struct Results {
    count: usize,
    results: Vec<Status>,
}

impl Pinning {
    /// The service at `url`. It is told `origins`, multiaddresses of who has the blocks.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn new(url: &str, token: Option<Token>, origins: Vec<String>) -> Result<Self, SinkError> {
        Ok(Self { remote: Remote::new("pinning", url, token)?, origins, connect: None })
    }

    /// A service that stores on Filecoin: the same API, and what it says of deals and pieces is shown.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn filecoin(url: &str, token: Option<Token>, origins: Vec<String>) -> Result<Self, SinkError> {
        Ok(Self { remote: Remote::new("filecoin", url, token)?, origins, connect: None })
    }

    /// With who connects with the peers that the service names.
    #[must_use]
    pub fn connecting(self, connect: Option<Connect>) -> Self {
        Self { connect, ..self }
    }

    /// What the service says. While it gets the blocks, its peers are connected with; and whoever waits for it is told if nobody
    /// can be found to have them.
    async fn held(&self, status: Status) -> Result<Held, SinkError> {
        let delegates = status.delegates.clone();
        let mut held = held(status)?;
        if matches!(held.state, State::Queued | State::Pinning) {
            if let Some(connect) = self.connect.as_ref().filter(|_| !delegates.is_empty()) {
                connect(delegates).await;
            }
            if self.origins.is_empty() {
                held.detail.get_or_insert_with(|| UNREACHABLE.to_owned());
            }
        }
        Ok(held)
    }

    /// The request for this CID that is furthest, whoever made it: after a crash nobody knows its id any more.
    async fn find(&self, pin: &Pin) -> Result<Option<Status>, SinkError> {
        let mut best: Option<Status> = None;
        let mut before: Option<String> = None;
        for _ in 0..PAGES {
            let request = self.remote.request(Method::GET, "pins")?;
            let cid = pin.root.to_string();
            let mut request = request.query(&[("cid", cid.as_str()), ("limit", &PAGE.to_string())]);
            request = request.query(&[("status", "queued,pinning,pinned,failed")]);
            if let Some(before) = &before {
                request = request.query(&[("before", before)]);
            }
            let (status, text) = answer(request).await?;
            if status != StatusCode::OK {
                return Err(refused(status, &text));
            }
            let Results { count, results } = parse(&text)?;
            let last = results.last().map(|status| status.created.clone());
            let more = count > results.len();
            best = results.into_iter().chain(best).max_by_key(|status| rank(&status.status));
            match last.filter(|last| more && Some(last) != before.as_ref()) {
                Some(last) => before = Some(last),
                None => break,
            }
        }
        Ok(best)
    }

    /// Makes a request, or replaces one that failed.
    async fn ask(&self, pin: &Pin, instead_of: Option<&str>) -> Result<Status, SinkError> {
        let path = instead_of.map_or_else(|| "pins".to_owned(), |id| format!("pins/{}", escaped(id)));
        let name: String = pin.name.chars().take(NAME).collect();
        let body = json!({ "cid": pin.root.to_string(), "name": name, "origins": self.origins });
        let (status, text) = answer(self.remote.request(Method::POST, &path)?.json(&body)).await?;
        // 202 it is; some services say 200.
        if status.is_success() { parse(&text) } else { Err(refused(status, &text)) }
    }

    async fn look(&self, id: &str) -> Result<Option<Status>, SinkError> {
        let request = self.remote.request(Method::GET, &format!("pins/{}", escaped(id)))?;
        let (status, text) = answer(request).await?;
        match status {
            StatusCode::OK => parse(&text).map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refused(status, &text)),
        }
    }

    async fn forget(&self, id: &str) -> Result<(), SinkError> {
        let request = self.remote.request(Method::DELETE, &format!("pins/{}", escaped(id)))?;
        let (status, text) = answer(request).await?;
        if status.is_success() || status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(refused(status, &text))
    }
}

impl Sink for Pinning {
    fn name(&self) -> &str {
        &self.remote.name
    }

    /// Its pins are recursive, always.
    fn holds_documents(&self) -> bool {
        false
    }

    fn put<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<Held, SinkError>> {
        Box::pin(async move {
            // Not all services find what they have by its CID.
            let known = match &pin.request {
                Some(id) => self.look(id).await?,
                None => None,
            };
            let found = match known {
                Some(known) => Some(known),
                None => self.find(pin).await?,
            };
            match found {
                Some(found) if found.status == "failed" => {
                    let again = self.ask(pin, Some(&found.requestid)).await?;
                    if again.status != "failed" || again.requestid != found.requestid {
                        return self.held(again).await;
                    }
                    // It was changed, and is not tried again.
                    self.forget(&found.requestid).await?;
                    self.held(self.ask(pin, None).await?).await
                }
                Some(found) => self.held(found).await,
                None => self.held(self.ask(pin, None).await?).await,
            }
        })
    }

    fn status<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<Held, SinkError>> {
        Box::pin(async move {
            let found = match &pin.request {
                Some(id) => self.look(id).await?,
                None => self.find(pin).await?,
            };
            match found {
                Some(found) => self.held(found).await,
                None => Ok(Held::new(State::Absent, None)),
            }
        })
    }

    fn remove<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let id = match &pin.request {
                Some(id) => id.clone(),
                None => match self.find(pin).await? {
                    Some(found) => found.requestid,
                    None => return Ok(()),
                },
            };
            self.forget(&id).await
        })
    }
}

impl fmt::Debug for Pinning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinning").field("remote", &self.remote).field("origins", &self.origins).finish()
    }
}

fn held(status: Status) -> Result<Held, SinkError> {
    let state = match status.status.as_str() {
        "queued" => State::Queued,
        "pinning" => State::Pinning,
        "pinned" => State::Pinned,
        "failed" => {
            let reason = ["status_details", "error"].iter().find_map(|name| status.info.get(name)?.as_str());
            State::Failed(told(reason.unwrap_or("the service does not say why")))
        }
        other => return Err(SinkError::Unexpected(format!("an unknown status, {:?}", short(other)))),
    };
    let detail = detail(&status.info);
    Ok(Held { state, request: Some(status.requestid), detail, permanent: false })
}

/// What is known on Filecoin by: the API leaves the names to services, and these words are in those that there are.
const FILECOIN: [&str; 3] = ["deal", "piece", "data_set"];

/// What a service tells of Filecoin, in its words.
fn detail(info: &serde_json::Value) -> Option<String> {
    let told_of = |name: &str| FILECOIN.iter().any(|word| name.to_ascii_lowercase().contains(word));
    let fields = info.as_object()?.iter().filter(|(name, _)| told_of(name));
    let fields: Vec<String> = fields
        .filter_map(|(name, value)| match value {
            serde_json::Value::String(text) => Some(format!("{name} {text}")),
            serde_json::Value::Number(number) => Some(format!("{name} {number}")),
            _ => None,
        })
        .collect();
    Some(told(&fields.join(", "))).filter(|text| !text.is_empty())
}

fn rank(status: &str) -> u8 {
    match status {
        "pinned" => 3,
        "pinning" => 2,
        "queued" => 1,
        _ => 0,
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, SinkError> {
    serde_json::from_str(text).map_err(|error| SinkError::Unexpected(format!("no pin: {error}")))
}

/// An id as a part of a path: it is the service's, and may be anything.
fn escaped(id: &str) -> String {
    url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>().replace('+', "%20")
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
