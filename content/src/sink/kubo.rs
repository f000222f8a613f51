//! A Kubo node by its RPC (<https://docs.ipfs.tech/reference/kubo/rpc/>): it is sent the blocks, and pins their root.

use af_contract::Codec;
use futures::future::BoxFuture;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::http::{Remote, answer, refused};
use super::{Held, Pin, Sink, SinkError, State, Token, upload};
use crate::disk::DiskStore;
use crate::walk::CarPieces;

/// Between the parts of a form. A CAR may have it, too, and would then be refused by the node: it is long enough that
/// none has it by chance.
const BOUNDARY: &str = "af-6b1f2a3e9d5c4f708192a3b4c5d6e7f8";

/// A Kubo node.
#[derive(Debug)]
pub struct Kubo {
    remote: Remote,
    blocks: DiskStore,
}

impl Kubo {
    /// The node whose RPC is at `url`, such as `http://127.0.0.1:5001`.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn new(url: &str, token: Option<Token>, blocks: DiskStore) -> Result<Self, SinkError> {
        Ok(Self { remote: Remote::new("kubo", url, token)?, blocks })
    }

    async fn import(&self, pin: &Pin) -> Result<(), SinkError> {
        let request = self.remote.transfer(Method::POST, "api/v0/dag/import?pin-roots=false")?;
        let form = format!("multipart/form-data; boundary={BOUNDARY}");
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"dag.car\"\r\n\
             Content-Type: application/vnd.ipld.car\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let head = std::iter::once(Ok(head.into()));
        let pieces =
            head.chain(CarPieces::new(&self.blocks, pin.root)).chain(std::iter::once(Ok(tail.into())));
        let (status, text) = upload::send(request.header(CONTENT_TYPE, form), pieces).await?;
        if status == StatusCode::OK { Ok(()) } else { Err(refused(status, &text)) }
    }
}

impl Sink for Kubo {
    fn name(&self) -> &str {
        &self.remote.name
    }

    fn put<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<Held, SinkError>> {
        Box::pin(async move {
            self.import(pin).await?;
            let path = format!("api/v0/pin/add?arg={}&recursive={}", pin.root, is_recursive(pin));
            let (status, text) = answer(self.remote.request(Method::POST, &path)?).await?;
            if status != StatusCode::OK {
                return Err(refused(status, &text));
            }
            // Its words are not enough: it says so, too, when it is asked.
            self.status(pin).await
        })
    }

    fn status<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<Held, SinkError>> {
        Box::pin(async move {
            let kind = if is_recursive(pin) { "recursive" } else { "direct" };
            let path = format!("api/v0/pin/ls?arg={}&type={kind}", pin.root);
            let (status, text) = answer(self.remote.request(Method::POST, &path)?).await?;
            let state = match status {
                StatusCode::OK if lists_a_pin(&text) => State::Pinned,
                // As the node says that there is none.
                StatusCode::INTERNAL_SERVER_ERROR if text.contains("not pinned") => State::Absent,
                StatusCode::OK => return Err(SinkError::Unexpected("no list of pins".into())),
                _ => return Err(refused(status, &text)),
            };
            Ok(Held::new(state, None))
        })
    }

    fn remove<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let path = format!("api/v0/pin/rm?arg={}&recursive={}", pin.root, is_recursive(pin));
            let (status, text) = answer(self.remote.request(Method::POST, &path)?).await?;
            match status {
                StatusCode::OK => Ok(()),
                _ if text.contains("not pinned") => Ok(()),
                _ => Err(refused(status, &text)),
            }
        })
    }
}

/// What a document links to is pinned for its own sake; the node would look for what is gone for ever.
fn is_recursive(pin: &Pin) -> bool {
    pin.root.codec() != Codec::DagCbor
}

/// js-ipfs sends one object a line, `{"Cid", "Type"}`; Kubo one with all, `{"Keys": {}}`.
fn lists_a_pin(text: &str) -> bool {
    text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|answer| {
        let keys = answer.get("Keys").and_then(Value::as_object);
        keys.is_some_and(|keys| !keys.is_empty()) || answer.get("Type").is_some()
    })
}
