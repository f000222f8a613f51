//! Delegated routing (<https://specs.ipfs.tech/routing/http-routing-v1/>): a server that knows who has a block. Those that speak
//! HTTP are asked for it. What it names can be any address, so each is judged before a connection is made.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use af_contract::ContentId;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use url::Url;

use super::gateway::{Gateway, shown, under};
use super::{Source, SourceError, http};
use crate::hash::Hashed;

/// Whether a provider's address may be asked.
pub type Allowed = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Providers that are asked for one block.
const PROVIDERS: usize = 4;

/// Providers that gave a block not long ago, and are asked first for the next one.
const KNOWN: usize = 4;

/// A routing server, and the providers that it named.
pub struct Routing {
    name: String,
    base: Url,
    client: Client,
    providers: Client,
    allowed: Allowed,
    known: Mutex<VecDeque<Arc<Gateway>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    providers: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    #[serde(default)]
    addrs: Vec<String>,
}

impl Routing {
    /// The server at `base`, without `/routing/v1`. Providers are asked only where all that they lead to is `allowed`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(base: Url, allowed: Allowed) -> Result<Self, SourceError> {
        let client = http::client(|builder| builder.redirect(Policy::none()))?;
        let resolver = Arc::new(Resolver(allowed.clone()));
        let providers =
            http::client(|builder| builder.redirect(Policy::none()).no_proxy().dns_resolver(resolver))?;
        let name = format!("routing {}", shown(&base));
        Ok(Self { name, base, client, providers, allowed, known: Mutex::default() })
    }

    async fn find(&self, id: ContentId) -> Result<Hashed, SourceError> {
        for gateway in self.known() {
            if let Ok(block) = self.ask(&gateway, id).await {
                return Ok(block);
            }
        }
        let mut failed = SourceError::NotFound;
        for url in self.lookup(id).await? {
            let gateway = Arc::new(Gateway::with(self.providers.clone(), url, None));
            match self.ask(&gateway, id).await {
                Ok(block) => {
                    self.remember(gateway);
                    return Ok(block);
                }
                Err(error) => failed = error,
            }
        }
        // What a provider did wrong is not the routing server's fault.
        Err(if failed.is_lie() { SourceError::Unexpected("providers that lie".to_owned()) } else { failed })
    }

    /// A provider's block is judged here: one that lies is not to cost the others.
    async fn ask(&self, gateway: &Arc<Gateway>, id: ContentId) -> Result<Hashed, SourceError> {
        let asked = gateway.block(id).await.and_then(|block| Ok(block.check(&id).map(|()| block)?));
        if asked.as_ref().is_err_and(|error| !matches!(error, SourceError::NotFound)) {
            self.forget(gateway);
        }
        asked
    }

    /// Who has a block, and speaks HTTP.
    async fn lookup(&self, id: ContentId) -> Result<Vec<Url>, SourceError> {
        let url = under(
            &self.base,
            &format!("routing/v1/providers/{id}"),
            "filter-protocols=transport-ipfs-gateway-http,unknown",
        );
        let response = self
            .client
            .get(url)
            .header(ACCEPT, "application/json")
            .send()
            .await
            .map_err(http::unreachable)?;
        // Servers of the first version say that they know nobody in this way.
        if response.status() == StatusCode::NOT_FOUND {
            return Err(SourceError::NotFound);
        }
        let response = http::answered(response)?;
        let answer: Answer = serde_json::from_slice(&http::message(response).await?)
            .map_err(|error| SourceError::Unexpected(format!("what is no answer: {error}")))?;
        let urls = answer.providers.iter().flat_map(|record| &record.addrs).filter_map(|addr| http_url(addr));
        let (may, barred): (Vec<Url>, Vec<Url>) = urls.partition(|url| self.may_ask(url));
        if may.is_empty() && !barred.is_empty() {
            let named: Vec<String> = barred.iter().take(PROVIDERS).map(shown).collect();
            return Err(SourceError::Barred(named.join(", ")));
        }
        Ok(may.into_iter().take(PROVIDERS).collect())
    }

    /// Names are judged when they are resolved.
    fn may_ask(&self, url: &Url) -> bool {
        match url.host() {
            Some(url::Host::Ipv4(address)) => (self.allowed)(address.into()),
            Some(url::Host::Ipv6(address)) => (self.allowed)(address.into()),
            Some(url::Host::Domain(_)) => true,
            None => false,
        }
    }

    fn known(&self) -> Vec<Arc<Gateway>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn remember(&self, gateway: Arc<Gateway>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|other| other.name() != gateway.name());
        known.truncate(KNOWN - 1);
        known.push_front(gateway);
    }

    fn forget(&self, gateway: &Arc<Gateway>) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| !Arc::ptr_eq(other, gateway));
    }
}

impl Source for Routing {
    fn name(&self) -> &str {
        &self.name
    }

    fn block(&self, id: ContentId) -> BoxFuture<'_, Result<Hashed, SourceError>> {
        self.find(id).boxed()
    }
}

impl fmt::Debug for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The URL of a multiaddr that ends in HTTP: `/dns4/example.com/tcp/443/https`, `/ip4/192.0.2.1/tcp/80/http`,
/// `/dns/example.com/tcp/443/tls/http`.
fn http_url(multiaddr: &str) -> Option<Url> {
    let mut parts = multiaddr.strip_prefix('/')?.split('/');
    let host = match (parts.next()?, parts.next()?) {
        ("ip6", address) => format!("[{address}]"),
        ("ip4" | "dns" | "dns4" | "dns6", host) => host.to_owned(),
        _ => return None,
    };
    let ("tcp", port) = (parts.next()?, parts.next()?.parse::<u16>().ok()?) else { return None };
    let rest: Vec<&str> = parts.collect();
    let scheme = match rest.as_slice() {
        ["https"] | ["tls", "http"] | ["tls", "sni", _, "http"] => "https",
        ["http"] => "http",
        _ => return None,
    };
    Url::parse(&format!("{scheme}://{host}:{port}/")).ok()
}

/// The system's resolver, without addresses that may not be asked.
struct Resolver(Allowed);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> = found.filter(|address| allowed(address.ip())).collect();
            if addresses.is_empty() {
                return Err("the name means no address that may be asked".into());
            }
            Ok::<Addrs, _>(Box::new(addresses.into_iter()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_http_providers_are_urls_and_others_nothing() {
        let url = |text: &str| http_url(text).map(String::from);
        assert_eq!(url("/dns4/example.com/tcp/443/https").as_deref(), Some("https://example.com/"));
        assert_eq!(url("/dns/example.com/tcp/8443/tls/http").as_deref(), Some("https://example.com:8443/"));
        assert_eq!(url("/ip4/192.0.2.1/tcp/80/http").as_deref(), Some("http://192.0.2.1/"));
        assert_eq!(url("/ip6/2001:db8::1/tcp/8080/http").as_deref(), Some("http://[2001:db8::1]:8080/"));
        for other in [
            "",
            "/",
            "/ip4/192.0.2.1/tcp/4001",
            "/ip4/192.0.2.1/udp/443/quic-v1",
            "/dns4/e/tcp/x/https",
            "/dns4/a@b/tcp/1/ws",
        ] {
            assert_eq!(url(other), None, "{other}");
        }
    }

    #[test]
    fn providers_within_the_own_network_are_not_asked() {
        let routing = Routing::new(
            Url::parse("http://127.0.0.1:1/").unwrap(),
            Arc::new(|address| !address.is_loopback()),
        );
        let routing = routing.unwrap();
        assert!(!routing.may_ask(&Url::parse("http://127.0.0.1/").unwrap()));
        assert!(!routing.may_ask(&Url::parse("http://[::1]/").unwrap()));
        assert!(routing.may_ask(&Url::parse("http://192.0.2.1/").unwrap()));
    }
}
