//! What every request has: an id, and an address that it comes from.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State as Shared};
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use ulid::Ulid;

use super::problem::Failure;
use super::rates;
use crate::app::State;
use crate::domain::Call;
use crate::domain::standings::Standings;

/// In responses.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Addresses of one `X-Forwarded-For` that are looked at.
const HOPS: usize = 16;

tokio::task_local! {
    static REQUEST: String;
}

/// The other end of the connection, as an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

impl<S: Sync> FromRequestParts<S> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// The id of the request that is being answered.
pub(super) fn request_id() -> String {
    REQUEST.try_with(String::clone).unwrap_or_else(|_| Ulid::generate().to_string())
}

/// Runs what belongs to a request in a task of its own.
pub(super) fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    REQUEST.scope(request_id(), future)
}

/// Gives a request its id and its address, and refuses those of an address that sends too many.
pub(super) async fn begin(Shared(state): Shared<Arc<State>>, mut request: Request, next: Next) -> Response {
    let id = Ulid::generate().to_string();
    let peer = request.extensions().get::<Peer>().map(|Peer(peer)| *peer);
    let address = peer.map(|peer| client(peer, request.headers(), &state.api.trusted_proxies));
    // A line that is no text is a tag that nothing has, and no reason to compare nothing.
    let if_match = request.headers().get_all(IF_MATCH).iter();
    let if_match: Vec<_> = if_match.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    let if_match = (!if_match.is_empty()).then(|| if_match.join(","));
    let standings = Standings::default();
    let (request_id, noted) = (Some(id.clone()), standings.clone());
    let call = Call { address, request: request_id, if_match, standings: noted, ..Call::default() };
    request.extensions_mut().insert(call);
    let answered = REQUEST.scope(id.clone(), async {
        let counted = match address {
            Some(address) => state.rates.address(address, &standings).await,
            None => Ok(()),
        };
        match counted {
            Ok(()) => next.run(request).await,
            Err(early) => Failure::from(early).into_response(),
        }
    });
    let mut response = answered.await;
    rates::tell(&standings.all(), response.headers_mut());
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Who asks: what trusted proxies say, from the nearest on, up to the first address that is none of theirs.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut address = peer.to_canonical();
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(',')).map(str::trim).take(HOPS);
    for hop in hops {
        if !is_trusted(&address) {
            break;
        }
        let parsed = hop.parse().or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip()));
        let Ok(before) = parsed else { break };
        address = before.to_canonical();
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_say_who_asks() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let from = |peer: &str, said: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in said {
                headers.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            client(peer.parse().unwrap(), &headers, &trusted).to_string()
        };
        assert_eq!(from("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "nobody is believed");
        assert_eq!(from("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("::ffff:10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["1.1.1.1, 198.51.100.7", "10.0.0.2"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["1.1.1.1, nonsense"]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
    }
}
