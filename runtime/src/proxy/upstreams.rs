//! The backends of one route: where they are, whose turn it is, and their connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};

use super::health::Health;
use super::pool::Pool;
use super::tls::Tls;

/// Backends that one request may try: beyond them its client has waited long enough.
const ATTEMPTS: usize = 3;

/// How a backend is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamScheme {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 or 1.1 over TLS, as the backend chooses.
    Https,
    /// HTTP/2 without TLS, which the backend has to expect.
    H2c,
}

/// Why a backend's address is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// `user:password@host`.
    #[error("a backend's URL must not have a user name in it")]
    User,
    /// No host, or one that no certificate can be for.
    #[error("a backend's URL needs a valid host")]
    Host,
}

/// One backend.
#[derive(Clone, Debug)]
pub struct UpstreamTarget {
    scheme: UpstreamScheme,
    authority: Authority,
    /// The authority as a Host header.
    host: HeaderValue,
    /// Where to connect to.
    uri: Uri,
}

impl UpstreamTarget {
    /// A backend at an authority, such as `api.example.com:8443`.
    ///
    /// # Errors
    /// When the authority has a user name or no host.
    pub fn new(scheme: UpstreamScheme, authority: Authority) -> Result<Self, UpstreamError> {
        if authority.as_str().contains('@') {
            return Err(UpstreamError::User);
        }
        if authority.host().is_empty() {
            return Err(UpstreamError::Host);
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| UpstreamError::Host)?;
        let with = if scheme == UpstreamScheme::Https { Scheme::HTTPS } else { Scheme::HTTP };
        let uri = Uri::builder().scheme(with).authority(authority.clone()).path_and_query("/");
        let uri = uri.build().map_err(|_| UpstreamError::Host)?;
        Ok(Self { scheme, authority, host, uri })
    }

    pub(super) fn scheme(&self) -> UpstreamScheme {
        self.scheme
    }

    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The absolute form, which HTTP/2 has.
    pub(super) fn absolute(&self, path: PathAndQuery) -> Uri {
        let mut parts = self.uri.clone().into_parts();
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        // Scheme, authority and path are all there.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// The backends of a route, in turn; those that fail are left out for a while. Connections are the route's own:
/// no other route or tenant ever gets them.
#[derive(Debug)]
pub struct Upstreams {
    members: Box<[Arc<Member>]>,
    next: AtomicUsize,
    timeout: Duration,
}

/// A backend, what is known of it, and its connections.
#[derive(Debug)]
pub(super) struct Member {
    /// Its place among the route's backends.
    pub number: usize,
    pub target: UpstreamTarget,
    pub health: Health,
    pub pool: Pool,
    pub tls: Tls,
}

impl Upstreams {
    /// Several backends, and how long each request may wait for a response to begin. `None` is one that nobody can reach.
    #[must_use]
    pub fn new(targets: Vec<Option<UpstreamTarget>>, timeout: Duration) -> Self {
        let member = |(number, target): (usize, Option<UpstreamTarget>)| {
            let (health, pool, tls) = (Health::default(), Pool::default(), Tls::default());
            Some(Arc::new(Member { number, target: target?, health, pool, tls }))
        };
        Self {
            members: targets.into_iter().enumerate().filter_map(member).collect(),
            next: AtomicUsize::new(0),
            timeout,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whom to try, one after the other: from the one whose turn it is, the good ones first.
    pub(super) fn order(&self) -> impl Iterator<Item = &Arc<Member>> {
        let count = self.members.len();
        // One backend needs no turns, nor the write that all cores would share.
        let start = if count > 1 { self.next.fetch_add(1, Ordering::Relaxed) % count } else { 0 };
        let turns = move || self.members.iter().cycle().skip(start).take(count);
        let good = turns().filter(|member| member.health.is_good());
        let others = turns().filter(|member| !member.health.is_good());
        good.chain(others).take(ATTEMPTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(authority: &str) -> Result<UpstreamTarget, UpstreamError> {
        UpstreamTarget::new(UpstreamScheme::Https, authority.parse().unwrap())
    }

    fn hosts(upstreams: &Upstreams) -> Vec<String> {
        upstreams.order().map(|member| member.target.host().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn backends_take_turns_and_the_good_ones_come_first() {
        let targets = ["a", "b", "c"].map(|name| target(name).ok());
        let upstreams = Upstreams::new(targets.into(), Duration::from_secs(1));
        assert_eq!(hosts(&upstreams), ["a", "b", "c"]);
        assert_eq!(hosts(&upstreams), ["b", "c", "a"]);
        (0..5).for_each(|_| upstreams.members[2].health.failed());
        assert_eq!(hosts(&upstreams), ["a", "b", "c"]);
        assert_eq!(hosts(&upstreams), ["a", "b", "c"]);
        upstreams.members.iter().for_each(|member| (0..5).for_each(|_| member.health.failed()));
        assert_eq!(hosts(&upstreams).len(), 3, "with none good, all are tried");
    }

    #[test]
    fn a_backend_is_a_host_without_a_user() {
        assert_eq!(target("user:secret@example.com").unwrap_err(), UpstreamError::User);
        let target = target("[2001:db8::1]:8443").unwrap();
        let path = "/a?b".parse().unwrap();
        assert_eq!(target.absolute(path).to_string(), "https://[2001:db8::1]:8443/a?b");
    }
}
