//! Names of custom domains: exact ones, and wildcards for all names one label below.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Host;

/// `www.example.com` or `*.example.com`: lower case, in ASCII (IDNA), without the dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);

/// Why a text is no domain name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainNameError {
    /// Not a host name.
    #[error("{0:?} is not a domain name; one looks like www.example.com or *.example.com")]
    Syntax(String),
    /// An address.
    #[error("{0:?} is an address; use a domain name")]
    Address(String),
    /// One label, which nobody can own.
    #[error("{0:?} has one label; a domain name has two or more, such as example.com")]
    Label(String),
}

impl DomainName {
    /// Checks a name and brings it into its one form.
    ///
    /// # Errors
    /// When it is no domain name.
    pub fn parse(text: &str) -> Result<Self, DomainNameError> {
        let shown = || text.chars().take(80).collect();
        let bare = text.strip_suffix('.').unwrap_or(text);
        let (wildcard, base) = bare.strip_prefix("*.").map_or(("", bare), |base| ("*.", base));
        let host = Host::parse(base).map_err(|_| DomainNameError::Syntax(shown()))?;
        let Host::Domain(name) = host else { return Err(DomainNameError::Address(shown())) };
        if !name.contains('.') {
            return Err(DomainNameError::Label(shown()));
        }
        let fits = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() + wildcard.len() > 253 || !name.split('.').all(fits) {
            return Err(DomainNameError::Syntax(shown()));
        }
        Ok(Self(format!("{wildcard}{name}")))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For a wildcard, the name that all of its names are under.
    #[must_use]
    pub fn wildcard_base(&self) -> Option<&str> {
        self.0.strip_prefix("*.")
    }

    /// The name without the wildcard's first label.
    #[must_use]
    pub fn base(&self) -> &str {
        self.wildcard_base().unwrap_or(&self.0)
    }

    /// Whether a host, lower case and without port, is this name or one of the wildcard's.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        match self.wildcard_base() {
            Some(base) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == base),
            None => self.0 == host,
        }
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for DomainName {
    type Err = DomainNameError;

    fn from_str(text: &str) -> Result<Self, DomainNameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for DomainName {
    type Error = DomainNameError;

    fn try_from(text: String) -> Result<Self, DomainNameError> {
        Self::parse(&text)
    }
}

impl From<DomainName> for String {
    fn from(name: DomainName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_form() {
        for (text, name) in [
            ("Example.COM", "example.com"),
            ("www.example.com.", "www.example.com"),
            ("*.Example.com", "*.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("a-b.c1.example", "a-b.c1.example"),
        ] {
            assert_eq!(DomainName::parse(text).unwrap().as_str(), name);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let long = format!("{}.example.com", "a.".repeat(125));
        for text in [
            "",
            ".",
            "com",
            "*",
            "*.",
            "*.com",
            "a..b",
            "127.0.0.1",
            "[::1]",
            "1.2.3",
            "example.com:80",
            "a b.com",
            "http://example.com",
            "x/y.com",
            "-a.com",
            "a-.com",
            "a_b.com",
            "w*.example.com",
            "*.*.example.com",
            &long,
        ] {
            assert!(DomainName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let wildcard = DomainName::parse("*.example.com").unwrap();
        assert!(wildcard.covers("www.example.com"));
        for other in ["example.com", "a.b.example.com", ".example.com", "wwwexample.com", "www.example.org"] {
            assert!(!wildcard.covers(other), "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_form_stays(text in "[a-zA-Z0-9*.ü-]{1,30}") {
            if let Ok(name) = DomainName::parse(&text) {
                proptest::prop_assert_eq!(&DomainName::parse(name.as_str()).unwrap(), &name);
            }
        }
    }
}
