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
        RolloutState { id: "rol_1".into(), candidate, percent, sticky: Sticky::Address }
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
