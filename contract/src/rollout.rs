//! A gradual rollout: which clients get a function's candidate instead of its active deployment.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::DeploymentRef;

/// A function's candidate, and who gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutState {
    /// `rol_…`
    pub id: String,
    /// What is to become active.
    pub candidate: DeploymentRef,
    /// How many of a hundred clients get it, 0 to 100.
    pub percent: u8,
    /// By what a client is known.
    pub sticky: Sticky,
    /// When an edge stops it.
    pub guard: Guard,
}

/// When an edge stops a rollout by itself: the candidate fails more often than the active deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// Of a hundred requests, so many more may fail; 100: it is never stopped.
    pub max_errors: u8,
    /// Requests to the candidate before it is judged.
    pub min_requests: u32,
}

/// Twenty requests tell a crash from bad luck; one in ten is what nobody wants to see of a new version.
impl Default for Guard {
    fn default() -> Self {
        Self { max_errors: 10, min_requests: 20 }
    }
}

/// How requests to a deployment went within a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// All.
    pub requests: u32,
    /// Those that the function, or the edge because of it, answered with a status of 500 or above, or not at all within five seconds
    /// of reading the whole request, until the client gave up. Who withholds a body counts for nothing.
    pub failures: u32,
}

/// An edge stopped a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutFailure {
    /// `fn_…`
    pub function: String,
    /// `rol_…`
    pub rollout: String,
    /// Of the candidate.
    pub candidate: Tally,
    /// Of the active deployment.
    pub active: Tally,
}

impl Guard {
    /// Whether the candidate fails too often.
    #[must_use]
    pub fn stops(&self, candidate: Tally, active: Tally) -> bool {
        let percent = |tally: Tally, others: Tally| {
            u128::from(tally.failures) * 100 * u128::from(others.requests.max(1))
        };
        let margin = u128::from(self.max_errors)
            * u128::from(candidate.requests.max(1))
            * u128::from(active.requests.max(1));
        candidate.requests >= self.min_requests.max(1)
            && percent(candidate, active) > percent(active, candidate) + margin
    }
}

impl fmt::Display for RolloutFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (candidate, active) = (self.candidate, self.active);
        write!(
            f,
            "{} of {} requests to it failed within a minute, and {} of {} to the active deployment",
            candidate.failures, candidate.requests, active.failures, active.requests
        )
    }
}

/// By what a client is known from one request to the next. Whoever lacks the header or the cookie is known by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sticky {
    /// Its IPv4 address, or its IPv6 network of 64 bits.
    #[default]
    Address,
    /// A header of its requests, by its name in lower case.
    Header(String),
    /// A cookie, by its name.
    Cookie(String),
}

/// Not a key that clients can be known by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} does not say by what clients are known; use address, header:NAME or cookie:NAME")]
pub struct StickyError(String);

/// A header's or a cookie's name, bytes.
const NAME_BYTES: usize = 64;

/// A token (RFC 9110, section 5.6.2), which names of headers and of cookies both are.
fn is_token(text: &str) -> bool {
    let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(is_one)
}

impl FromStr for Sticky {
    type Err = StickyError;

    fn from_str(text: &str) -> Result<Self, StickyError> {
        match text.split_once(':') {
            None if text == "address" => Ok(Self::Address),
            Some(("header", name)) if is_token(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            Some(("cookie", name)) if is_token(name) => Ok(Self::Cookie(name.to_owned())),
            _ => Err(StickyError(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

impl TryFrom<String> for Sticky {
    type Error = StickyError;

    fn try_from(text: String) -> Result<Self, StickyError> {
        text.parse()
    }
}

impl From<Sticky> for String {
    fn from(sticky: Sticky) -> Self {
        sticky.to_string()
    }
}

impl RolloutState {
    /// Whether the client with this key gets the candidate. All edges decide the same; a higher percentage takes clients to the
    /// candidate and none away from it; and every candidate begins with other clients.
    #[must_use]
    pub fn takes(&self, key: &[u8]) -> bool {
        let mut hasher = blake3::Hasher::new();
        // Ids have no such byte.
        hasher.update(self.candidate.id.as_bytes()).update(&[0]).update(key);
        let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
        let place = (u64::from(u32::from_be_bytes([a, b, c, d])) * 100) >> 32;
        place < u64::from(self.percent)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use super::*;
    use crate::{Codec, ContentId, HashKind, Settings};

    fn state(candidate: &str, percent: u8) -> RolloutState {
        let manifest = ContentId::new(Codec::DagCbor, HashKind::Sha2_256, [0; 32]);
        let candidate =
            DeploymentRef { id: candidate.into(), manifest, settings: Settings::new(), content_key: None };
        RolloutState {
            id: "rol_1".into(),
            candidate,
            percent,
            sticky: Sticky::Address,
            guard: Guard::default(),
        }
    }

    fn taken(state: &RolloutState) -> Vec<u32> {
        (0..10_000).filter(|client: &u32| state.takes(&client.to_be_bytes())).collect()
    }

    #[test]
    fn as_many_clients_as_wanted_get_it_and_a_raise_takes_it_from_none() {
        let mut before = Vec::new();
        for percent in [0, 1, 10, 50, 99, 100] {
            let now = taken(&state("dep_1", percent));
            assert!(before.iter().all(|client| now.contains(client)), "{percent}");
            let wanted = 100 * usize::from(percent);
            assert!(now.len().abs_diff(wanted) < 200, "{percent}: {}", now.len());
            before = now;
        }
        assert_eq!(before.len(), 10_000);
        assert!(taken(&state("dep_1", 0)).is_empty());
        assert_ne!(taken(&state("dep_1", 10)), taken(&state("dep_2", 10)), "others come first");
    }

    #[test]
    fn a_candidate_may_fail_as_often_as_the_active_one_and_a_little_more() {
        let guard = Guard { max_errors: 10, min_requests: 20 };
        let tally = |failures, requests| Tally { requests, failures };
        for (candidate, active, stops) in [
            (tally(19, 19), tally(0, 100), false),
            (tally(2, 20), tally(0, 100), false),
            (tally(3, 20), tally(0, 100), true),
            (tally(3, 20), tally(0, 0), true),
            (tally(10, 20), tally(40, 100), false),
            (tally(11, 20), tally(40, 100), true),
        ] {
            assert_eq!(guard.stops(candidate, active), stops, "{candidate:?} {active:?}");
        }
        let never = Guard { max_errors: 100, min_requests: 1 };
        assert!(!never.stops(tally(20, 20), tally(0, 0)));
    }

    #[test]
    fn a_key_is_what_it_says_or_refused() {
        for text in ["address", "header:x-user", "cookie:sid"] {
            assert_eq!(text.parse::<Sticky>().unwrap().to_string(), text);
        }
        assert_eq!("header:X-User".parse(), Ok(Sticky::Header("x-user".into())));
        for text in ["", "cookie", "cookie:", "header:a b", "cookie:a=b", "ip", "cookie:a;b"] {
            assert!(text.parse::<Sticky>().is_err(), "{text}");
        }
    }
}
