//! A trustless gateway (<https://specs.ipfs.tech/http-gateways/trustless-gateway/>): a public one, another edge, or a control
//! plane.

use std::fmt;
use std::sync::Arc;

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
    credential: Credential,
}

/// What a gateway wants to see.
#[derive(Clone)]
enum Credential {
    Nothing,
    Token(String),
    /// Another one for each request, by its path under the base.
    Made(Arc<Prove>),
}

/// Makes what is shown with a request for a path.
type Prove = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Gateway {
    /// The gateway at `base`, which may have a path. A private one wants a bearer token.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(base: Url, token: Option<String>) -> Result<Self, SourceError> {
        let client = http::client(|builder| builder.redirect(Policy::limited(REDIRECTS)))?;
        Ok(Self::with(client, base, token))
    }

    /// A gateway that wants another bearer token with each request: one for its path and query under `base`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn proven(
        base: Url,
        proof: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self, SourceError> {
        Ok(Self { credential: Credential::Made(Arc::new(proof)), ..Self::new(base, None)? })
    }

    pub(super) fn with(client: Client, base: Url, token: Option<String>) -> Self {
        let credential = token.map_or(Credential::Nothing, Credential::Token);
        Self { name: format!("gateway {}", shown(&base)), base, client, credential }
    }

    fn get(&self, id: &ContentId, query: &str, accept: &str) -> RequestBuilder {
        let path = format!("ipfs/{id}");
        let url = under(&self.base, &path, query);
        let request = self.client.get(url).header(ACCEPT, accept);
        match &self.credential {
            Credential::Nothing => request,
            Credential::Token(token) => request.bearer_auth(token),
            Credential::Made(make) => match make(&format!("{path}?{query}")) {
                Some(proof) => request.bearer_auth(proof),
                // It will refuse it, and say so.
                None => request,
            },
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
