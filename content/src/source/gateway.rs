//! A trustless gateway (<https://specs.ipfs.tech/http-gateways/trustless-gateway/>): a public one, another edge, or a control
//! plane.

use std::fmt;

use af_contract::ContentId;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};
use url::Url;

use super::{Blocks, Source, SourceError, http};
use crate::hash::Hashed;

/// Gateways with a host per CID send there.
const REDIRECTS: usize = 3;

/// A gateway.
pub struct Gateway {
    name: String,
    base: Url,
    client: Client,
    token: Option<String>,
}

impl Gateway {
    /// The gateway at `base`, which may have a path. A private one wants a bearer token.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(base: Url, token: Option<String>) -> Result<Self, SourceError> {
        let client = http::client(|builder| builder.redirect(Policy::limited(REDIRECTS)))?;
        Ok(Self::with(client, base, token))
    }

    pub(super) fn with(client: Client, base: Url, token: Option<String>) -> Self {
        Self { name: format!("gateway {}", shown(&base)), base, client, token }
    }

    fn get(&self, id: &ContentId, query: &str, accept: &str) -> RequestBuilder {
        let url = under(&self.base, &format!("ipfs/{id}"), query);
        let request = self.client.get(url).header(ACCEPT, accept);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

impl Source for Gateway {
    fn name(&self) -> &str {
        &self.name
    }

    fn block(&self, id: ContentId) -> BoxFuture<'_, Result<Hashed, SourceError>> {
        let request = self.get(&id, "format=raw", "application/vnd.ipld.raw");
        async move { http::block(id, http::ask(request).await?).await }.boxed()
    }

    fn dag(&self, root: ContentId) -> Option<Blocks<'_>> {
        let accept = "application/vnd.ipld.car; version=1; order=dfs; dups=n";
        Some(http::car(self.get(&root, "format=car&dag-scope=all&car-order=dfs&car-dups=n", accept)))
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A URL as people may see it: without what could be a secret.
pub(super) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path().trim_end_matches('/'))
}

/// A path under a base that may have a path itself.
pub(super) fn under(base: &Url, path: &str, query: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url.set_query(Some(query).filter(|query| !query.is_empty()));
    url
}
