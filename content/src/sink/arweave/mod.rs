//! Arweave through a bundler: a DAG goes there as one data item with a CAR, signed here, and is found again by the tag with
//! its root. What is there cannot be removed by anybody.

mod ticket;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use self::ticket::Ticket;
use super::http::{Remote, answer, refused, sent, told, unreachable};
use super::{Held, Pin, Sink, SinkError, State, upload};
use crate::ans104::{self, Blob, Key, TagError, Tags};
use crate::car;
use crate::disk::DiskStore;
use crate::walk::CarPieces;

/// The tag by which a DAG is found.
pub const IPFS_CID: &str = "IPFS-CID";

/// A bundler, and the gateway that has to show what it was given.
#[derive(Debug)]
pub struct Arweave {
    bundler: Remote,
    gateway: Remote,
    key: Key,
    blocks: DiskStore,
}

/// What a bundler says of an item that it has.
#[derive(Deserialize)]
struct Status {
    status: String,
    #[serde(default)]
    info: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

/// What it answers to an item that it takes.
#[derive(Deserialize)]
struct Receipt {
    id: String,
}

/// How far the bundler is.
enum Bundled {
    /// It has no such item.
    Unknown,
    /// It has it, and has still to have it written.
    Coming(Option<String>),
    /// It is written.
    Written,
    Failed(String),
}

impl Arweave {
    /// By the bundler whose API is at `bundler`, such as `https://upload.ardrive.io/v1`; the gateway is asked for what it was
    /// given. `key` signs, and is who pays.
    ///
    /// # Errors
    /// When a URL is none.
    pub fn new(bundler: &str, gateway: &str, key: Key, blocks: DiskStore) -> Result<Self, SinkError> {
        let gateway = Remote::read_only("arweave", gateway)?;
        Ok(Self { bundler: Remote::new("arweave", bundler, None)?, gateway, key, blocks })
    }

    /// Signs a DAG, for which all of it is read once.
    async fn sign(&self, pin: &Pin) -> Result<Ticket, SinkError> {
        let pieces = CarPieces::new(&self.blocks, pin.root);
        let data = tokio::task::spawn_blocking(move || {
            let mut data = Blob::default();
            for piece in pieces {
                data.push(&piece?);
            }
            Ok::<_, SinkError>(data)
        });
        let data = data.await??;
        let bytes = data.bytes();
        let signature = self.key.sign(&ans104::signed(&self.key, &tags(pin)?, data))?;
        Ok(Ticket { owner: self.key.address(), bytes, signature })
    }

    /// The one that was signed before, unless by another key: a wallet signs differently each time, and whatever is sent
    /// under another signature is paid for again.
    async fn ticket(&self, pin: &Pin) -> Result<Ticket, SinkError> {
        let before = pin.request.as_deref().and_then(Ticket::parse);
        match before.filter(|ticket| ticket.owner == self.key.address()) {
            Some(ticket) => Ok(ticket),
            None => self.sign(pin).await,
        }
    }

    async fn upload(&self, pin: &Pin, ticket: &Ticket) -> Result<(), SinkError> {
        let head = ans104::head(&self.key, &tags(pin)?, &ticket.signature);
        let length = head.len() as u64 + ticket.bytes;
        let request = self.bundler.transfer(Method::POST, "tx")?;
        // Bundlers want to know what it will cost before they read it.
        let request = request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, length);
        let head = std::iter::once(Ok(Bytes::from(head)));
        let pieces = head.chain(CarPieces::new(&self.blocks, pin.root));
        let (status, text) = upload::send(request, pieces).await?;
        match (status, serde_json::from_str::<Receipt>(&text)) {
            (_, Ok(receipt)) if status.is_success() => {
                if receipt.id == ticket.id() {
                    return Ok(());
                }
                Err(SinkError::Unexpected(format!("a receipt for another item, {:?}", told(&receipt.id))))
            }
            // It was there already.
            (StatusCode::ACCEPTED, _) => Ok(()),
            (_, Err(_)) if status.is_success() => Err(SinkError::Unexpected("no receipt".into())),
            _ => Err(refused(status, &text)),
        }
    }

    /// How far an item is; nothing when nobody knows it.
    async fn look(&self, pin: &Pin, ticket: &Ticket) -> Result<Option<Held>, SinkError> {
        let id = ticket.id();
        let state = match self.bundled(&id).await? {
            Bundled::Failed(reason) => (State::Failed(reason), None),
            Bundled::Coming(info) => (State::Pinning, info),
            Bundled::Written if self.shown(pin, ticket).await? => (State::Pinned, None),
            Bundled::Written => (State::Pinning, Some("written, and not at the gateway yet".into())),
            Bundled::Unknown if self.shown(pin, ticket).await? => (State::Pinned, None),
            Bundled::Unknown => return Ok(None),
        };
        Ok(Some(held(ticket, state.0, state.1.as_deref())))
    }

    async fn bundled(&self, id: &str) -> Result<Bundled, SinkError> {
        let request = self.bundler.request(Method::GET, &format!("tx/{id}/status"))?;
        let (status, text) = answer(request).await?;
        match status {
            StatusCode::OK => {}
            // Not all bundlers tell.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                return Ok(Bundled::Unknown);
            }
            _ => return Err(refused(status, &text)),
        }
        let Ok(said) = serde_json::from_str::<Status>(&text) else {
            return Err(SinkError::Unexpected("no status of a data item".into()));
        };
        match said.status.as_str() {
            "FINALIZED" => Ok(Bundled::Written),
            "CONFIRMED" => Ok(Bundled::Coming(said.info.as_deref().map(told))),
            "FAILED" => {
                let reason = said.reason.or(said.info).as_deref().map(told);
                Ok(Bundled::Failed(reason.unwrap_or_else(|| "the bundler does not say why".into())))
            }
            other => Err(SinkError::Unexpected(format!("an unknown status, {:?}", told(other)))),
        }
    }

    /// Whether the gateway has the item: as long as it is, and as it begins. Its blocks are verified by whoever reads them.
    async fn shown(&self, pin: &Pin, ticket: &Ticket) -> Result<bool, SinkError> {
        let header = car::encode_header(&[pin.root]);
        let request = self.gateway.request(Method::GET, &ticket.id())?;
        let range = format!("bytes=0-{}", header.len() - 1);
        let mut response = sent(request.header(RANGE, range)).await?;
        let length = match response.status() {
            StatusCode::PARTIAL_CONTENT => whole(response.headers()),
            StatusCode::OK => response.content_length(),
            // 202: it is on its way.
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::ACCEPTED => return Ok(false),
            status => return Err(refused(status, "the gateway does not show the item")),
        };
        let mut begins = BytesMut::new();
        while begins.len() < header.len()
            && let Some(chunk) = response.chunk().await.map_err(unreachable)?
        {
            begins.extend_from_slice(&chunk);
        }
        if begins.starts_with(&header) && length.is_none_or(|length| length == ticket.bytes) {
            return Ok(true);
        }
        Err(SinkError::Unexpected(format!("something else than was archived as {}", ticket.id())))
    }
}

impl Sink for Arweave {
    fn name(&self) -> &str {
        &self.bundler.name
    }

    fn prepare<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<Option<String>, SinkError>> {
        Box::pin(async move { Ok(Some(self.ticket(pin).await?.to_string())) })
    }

    fn put<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<Held, SinkError>> {
        Box::pin(async move {
            let ticket = self.ticket(pin).await?;
            // An earlier attempt may have come further than it was told.
            match self.look(pin, &ticket).await? {
                Some(held) if !matches!(held.state, State::Failed(_)) => return Ok(held),
                _ => {}
            }
            self.upload(pin, &ticket).await?;
            Ok(held(&ticket, State::Pinning, None))
        })
    }

    fn status<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<Held, SinkError>> {
        Box::pin(async move {
            let Some(ticket) = pin.request.as_deref().and_then(Ticket::parse) else {
                return Ok(Held::new(State::Absent, None));
            };
            // Not absent: it is sent again under the same name, which is not paid for twice.
            let lost =
                || held(&ticket, State::Failed("neither the bundler nor the gateway knows it".into()), None);
            Ok(self.look(pin, &ticket).await?.unwrap_or_else(lost))
        })
    }

    /// Nothing: see [`Held::permanent`].
    fn remove<'a>(&'a self, _: &'a Pin) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The same for a root at all times: they are signed.
fn tags(pin: &Pin) -> Result<Tags, SinkError> {
    let root = pin.root.to_string();
    let tags = [("Content-Type", "application/vnd.ipld.car"), ("App-Name", "af"), (IPFS_CID, root.as_str())];
    Tags::new(&tags).map_err(|error: TagError| SinkError::Unexpected(error.to_string()))
}

fn held(ticket: &Ticket, state: State, info: Option<&str>) -> Held {
    let id = ticket.id();
    let detail = Some(info.map_or_else(|| format!("item {id}"), |info| format!("item {id}, {info}")));
    // What a bundler took, it may have written.
    Held { state, request: Some(ticket.to_string()), detail, permanent: true }
}

/// The length of the whole of which an answer is a part.
fn whole(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.parse().ok()
}
