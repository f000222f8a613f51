//! What a function may reach besides itself. A deployment's manifest lists it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Hosts that a function may send requests to: `api.example.com`, an address, or `*.example.com`,
/// which is any name under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern(String);

/// A key-value store of the project: 1 to 64 of `[a-z0-9_-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoreName(String);

/// Why a capability is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// Not a host.
    #[error("{0:?} is not a host; use one such as api.example.com, or *.example.com for all names under it")]
    Host(String),
    /// Not a store's name.
    #[error("{0:?} is not a store's name; use 1 to 64 of a-z, 0-9, dashes and underscores")]
    Store(String),
}

impl HostPattern {
    /// Checks a pattern. Letters become lower case.
    ///
    /// # Errors
    /// When it is no host: empty, with a port, a path or a star elsewhere than in front.
    pub fn parse(text: &str) -> Result<Self, CapabilityError> {
        let lower = text.to_ascii_lowercase();
        let host = lower.strip_prefix("*.").unwrap_or(&lower);
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let fits = match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok() && host.len() == lower.len(),
            None => {
                let label = |label: &str| {
                    (1..=63).contains(&label.len())
                        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                };
                lower.len() <= 253 && host.split('.').all(label)
            }
        };
        if fits { Ok(Self(lower)) } else { Err(CapabilityError::Host(shortened(text))) }
    }

    /// Whether it stands for a host, given as in a URL, without port.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match self.0.strip_prefix('*') {
            Some(suffix) => {
                let cut = host.len().checked_sub(suffix.len()).filter(|cut| *cut > 0);
                cut.and_then(|cut| host.get(cut..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
            None => host.eq_ignore_ascii_case(&self.0),
        }
    }
}

impl StoreName {
    /// The store that every function of a project may use.
    pub const DEFAULT: &'static str = "default";

    /// Checks a name.
    ///
    /// # Errors
    /// When it is empty, too long, or has another character.
    pub fn parse(text: &str) -> Result<Self, CapabilityError> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if fits { Ok(Self(text.to_owned())) } else { Err(CapabilityError::Store(shortened(text))) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for HostPattern {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        Self::parse(text)
    }
}

impl std::str::FromStr for StoreName {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for HostPattern {
    type Error = CapabilityError;

    fn try_from(text: String) -> Result<Self, CapabilityError> {
        Self::parse(&text)
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.0
    }
}

impl TryFrom<String> for StoreName {
    type Error = CapabilityError;

    fn try_from(text: String) -> Result<Self, CapabilityError> {
        Self::parse(&text)
    }
}

impl From<StoreName> for String {
    fn from(name: StoreName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_stands_for_what_it_says() {
        let matches = |pattern: &str, host: &str| HostPattern::parse(pattern).unwrap().matches(host);
        assert!(matches("API.example.com", "api.EXAMPLE.com"));
        assert!(matches("api.example.com", "api.example.com."), "the same name, written absolutely");
        assert!(matches("*.example.com", "a.b.example.com"));
        assert!(matches("[::1]", "[::1]"));
        assert!(!matches("*.example.com", "example.com"));
        assert!(!matches("*.example.com", ".example.com"));
        assert!(!matches("*.example.com", "evilexample.com"));
        assert!(!matches("example.com", "example.com.evil.net"));
        assert!(!matches("example.com", "a.example.com"));
    }

    #[test]
    fn what_is_no_host_or_store_is_refused() {
        for text in
            ["", "*", "*.", "a..b", "a*.b", "*.*.b", "a:80", "http://a", "a/b", "[::1", "*.[::1]", "a b"]
        {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
        for text in ["", "A", "a b", "a/b", &"a".repeat(65)] {
            assert!(StoreName::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_that_means_itself_or_is_refused(text in ".{0,20}", host in "[a-zé.]{0,12}") {
            if let Ok(pattern) = HostPattern::parse(&text) {
                prop_assert_eq!(HostPattern::parse(&pattern.to_string()), Ok(pattern.clone()));
                prop_assert!(pattern.matches(text.trim_start_matches("*")) || text.starts_with('*'));
                let _any = pattern.matches(&host);
            }
        }
    }
}
