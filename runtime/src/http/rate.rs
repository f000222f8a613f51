//! How often: per client and per function, with the headers of draft-ietf-httpapi-ratelimit-headers-10. Counted on
//! this node alone.

use std::fmt::Write;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue};
use af_contract::limits;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use moka::sync::Cache;

use crate::listen::Client;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What may come at once, in seconds' worth of the rate: a page with its parts, then nothing for a while.
const BURST_SECONDS: u32 = 2;

/// Clients whose rate is known; the one that was heard of least recently is forgotten. 200 bytes each.
const CLIENTS: u64 = 65_536;

/// Nobody has waited for so long: a client that asks no more is forgotten, its burst is full again.
const FORGET: Duration = Duration::from_secs(60);

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// Too many requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests: {name} may be called {per_second} times a second; try again in {retry_after} s")]
pub struct RateError {
    name: Subject,
    per_second: u32,
    /// Seconds, at least one.
    pub retry_after: u64,
}

/// Whose requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Client,
    Function,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client => "this server, from one address,",
            Self::Function => "this function",
        })
    }
}

impl Subject {
    /// Of the policy, in headers.
    fn name(self) -> &'static str {
        match self {
            Self::Client => "address",
            Self::Function => "function",
        }
    }
}

/// One subject's rate.
pub struct Rate {
    subject: Subject,
    per_second: NonZeroU32,
    limiter: Limiter,
}

/// What is left after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    subject: Subject,
    per_second: u32,
    remaining: u32,
    /// When there is more, seconds.
    reset: u64,
}

impl Rate {
    /// Of a function.
    pub fn of_function(per_second: NonZeroU32) -> Self {
        Self::new(Subject::Function, per_second)
    }

    fn new(subject: Subject, per_second: NonZeroU32) -> Self {
        let per_second = per_second.min(limits::REQUESTS_PER_SECOND);
        let burst = per_second.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_SECONDS - 1));
        let limiter = RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst));
        Self { subject, per_second, limiter: limiter.with_middleware() }
    }

    /// Counts one request. The standing is there in both cases, for the response's headers.
    pub fn count(&self) -> (Standing, Result<(), RateError>) {
        let per_second = self.per_second.get();
        let standing = |remaining, reset| Standing { subject: self.subject, per_second, remaining, reset };
        match self.limiter.check() {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let missing = per_second.saturating_mul(BURST_SECONDS).saturating_sub(remaining);
                (standing(remaining, u64::from(missing.div_ceil(per_second))), Ok(()))
            }
            Err(early) => {
                let wait = early.wait_time_from(DefaultClock::default().now());
                let retry_after = wait.as_secs() + 1;
                let error = RateError { name: self.subject, per_second, retry_after };
                (standing(0, retry_after), Err(error))
            }
        }
    }
}

/// The rates of all clients.
pub struct ClientRates {
    per_second: NonZeroU32,
    clients: Cache<Client, Arc<Rate>>,
}

impl ClientRates {
    /// So many requests a second for each.
    pub fn new(per_second: NonZeroU32) -> Self {
        let clients = Cache::builder().max_capacity(CLIENTS).time_to_idle(FORGET).build();
        Self { per_second, clients }
    }

    /// Counts one request of a client.
    pub fn count(&self, address: IpAddr) -> (Standing, Result<(), RateError>) {
        let new = || Arc::new(Rate::new(Subject::Client, self.per_second));
        self.clients.get_with(Client::from(address), new).count()
    }
}

/// Tells the client where it stands.
pub fn tell(standings: &[Standing], headers: &mut HeaderMap) {
    let (mut policies, mut limits) = (String::new(), String::new());
    for Standing { subject, per_second, remaining, reset } in standings {
        let comma = if policies.is_empty() { "" } else { ", " };
        let (name, quota) = (subject.name(), per_second.saturating_mul(BURST_SECONDS));
        // Writing to a string cannot fail.
        let _written = write!(policies, "{comma}\"{name}\";q={quota};w={BURST_SECONDS}");
        let _written = write!(limits, "{comma}\"{name}\";r={remaining};t={reset}");
    }
    for (header, text) in [(RATELIMIT_POLICY, policies), (RATELIMIT, limits)] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(header, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_no_more() {
        let rate = Rate::of_function(NonZeroU32::new(2).unwrap());
        let mut left = Vec::new();
        for _ in 0..4 {
            let (standing, counted) = rate.count();
            assert!(counted.is_ok());
            left.push(standing.remaining);
        }
        assert_eq!(left, [3, 2, 1, 0]);
        let (standing, counted) = rate.count();
        assert_eq!(counted.unwrap_err().retry_after, 1);
        let mut headers = HeaderMap::new();
        tell(&[standing], &mut headers);
        assert_eq!(headers.get(RATELIMIT_POLICY).unwrap(), "\"function\";q=4;w=2");
        assert_eq!(headers.get(RATELIMIT).unwrap(), "\"function\";r=0;t=1");
    }

    #[test]
    fn clients_do_not_share_a_rate() {
        let rates = ClientRates::new(NonZeroU32::MIN);
        let count = |address: &str| rates.count(address.parse().unwrap()).1.is_ok();
        assert!(count("192.0.2.1") && count("192.0.2.1"));
        assert!(!count("192.0.2.1"));
        assert!(count("192.0.2.2"));
        assert!(count("2001:db8::1") && count("2001:db8::2"));
        assert!(!count("2001:db8::3"), "they are one network");
    }
}
