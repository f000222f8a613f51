//! A Kubo node, or another with its RPC (<https://docs.ipfs.tech/reference/kubo/rpc/>). It looks for what it does not have.

use std::fmt;

use af_contract::ContentId;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use url::Url;

use super::gateway::{shown, under};
use super::{Blocks, Source, SourceError, http};
use crate::hash::Hashed;

/// How long the node looks for a block, as it is told. Less than a source may take, so that it says that it found nothing.
const LOOK: &str = "10s";

/// Characters of what it says that are told.
const MESSAGE: usize = 300;

/// A node.
pub struct Kubo {
    name: String,
    base: Url,
    client: Client,
}

/// What it says when something went wrong.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fault {
    message: String,
}

impl Kubo {
    /// The node whose RPC is at `base`, without `/api/v0`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(base: Url) -> Result<Self, SourceError> {
        let client = http::client(|builder| builder.redirect(Policy::none()))?;
        Ok(Self { name: format!("kubo {}", shown(&base)), base, client })
    }

    fn call(&self, command: &str, id: &ContentId) -> RequestBuilder {
        let url = under(&self.base, &format!("api/v0/{command}"), &format!("arg={id}&timeout={LOOK}"));
        self.client.post(url)
    }
}

impl Source for Kubo {
    fn name(&self) -> &str {
        &self.name
    }

    fn block(&self, id: ContentId) -> BoxFuture<'_, Result<Hashed, SourceError>> {
        let request = self.call("block/get", &id);
        async move {
            let response = request.send().await.map_err(http::unreachable)?;
            // It has one status for all that may go wrong.
            if response.status() != StatusCode::INTERNAL_SERVER_ERROR {
                return http::block(id, http::answered(response)?).await;
            }
            let fault: Result<Fault, _> = serde_json::from_slice(&http::message(response).await?);
            Err(match fault {
                Ok(fault) if is_not_found(&fault.message) => SourceError::NotFound,
                Ok(fault) => SourceError::Failed(fault.message.chars().take(MESSAGE).collect()),
                Err(_) => SourceError::Failed("status 500".to_owned()),
            })
        }
        .boxed()
    }

    fn dag(&self, root: ContentId) -> Option<Blocks<'_>> {
        Some(http::car(self.call("dag/export", &root)))
    }
}

/// Kubo, whatever looked for it; js-ipfs; and both when the time was up.
fn is_not_found(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["not found", "could not find", "deadline exceeded", "timeout", "timed out"]
        .iter()
        .any(|said| message.contains(said))
}

impl fmt::Debug for Kubo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
