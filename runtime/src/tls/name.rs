//! A name that a certificate can be for.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest name that gets a certificate here: DNS allows 253, and a file has to bear it with an ending.
const LENGTH: usize = 240;

/// A lower-case host name, or all names one label below one. Cheap to clone.
///
/// Kept as `a.example.com` or `.example.com` (for `*.example.com`), so that a wildcard is found with a slice of
/// the name that a client sends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(Arc<str>);

/// Not a name that a certificate can be for.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a host name that can have a certificate")]
pub struct InvalidName(String);

impl DnsName {
    /// `example.com` or `*.example.com`; upper case and one dot at the end are allowed.
    ///
    /// # Errors
    /// When it is something else: an address, a wildcard elsewhere, too long.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName(text.chars().take(LENGTH).collect());
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (kept, host) = match lower.strip_prefix('*') {
            Some(wild) => (wild, wild.strip_prefix('.').ok_or_else(invalid)?),
            None => (lower.as_str(), lower.as_str()),
        };
        let labels = host.split('.').all(is_label);
        // The last label of a name is never a number, that of an IPv4 address always is.
        let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if labels && !numeric && kept.len() <= LENGTH { Ok(Self(kept.into())) } else { Err(invalid()) }
    }

    /// How it is looked up: see [`DnsName`].
    #[must_use]
    pub fn key(&self) -> &str {
        &self.0
    }

    /// Whether it stands for all names below one.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('.')
    }

    /// The host without a wildcard: where the answer to a DNS challenge for it stands.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.strip_prefix('.').unwrap_or(&self.0)
    }

    /// Whether a certificate for `self` is good for `other`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self == other || (!other.is_wildcard() && parent(other.key()) == Some(self.key()))
    }

    /// What its file is called: `_` stands for the wildcard, and cannot begin a host name's label here.
    #[must_use]
    pub fn file_name(&self, ending: &str) -> String {
        if self.is_wildcard() { format!("_{}.{ending}", self.0) } else { format!("{}.{ending}", self.0) }
    }

    /// The name that has this file.
    #[must_use]
    pub fn of_file(file: &str, ending: &str) -> Option<Self> {
        let stem = file.strip_suffix(ending)?.strip_suffix('.')?;
        let name = match stem.strip_prefix("_.") {
            Some(base) => Self::parse(&format!("*.{base}")),
            None => Self::parse(stem),
        };
        name.ok()
    }
}

/// `.example.com` for `a.example.com`: the key of the wildcard that covers it.
pub fn parent(key: &str) -> Option<&str> {
    // A wildcard's key begins with its dot, and no wildcard covers another.
    key.find('.').filter(|at| *at > 0).and_then(|at| key.get(at..))
}

fn is_label(label: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let bytes = label.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| plain(*b))
        && edge(bytes.first())
        && edge(bytes.last())
        && label != "_"
}

impl Borrow<str> for DnsName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_wildcard() { write!(f, "*{}", self.0) } else { f.write_str(&self.0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_host_names_and_wildcards_are_names() {
        for (text, key) in [
            ("a.example.com", "a.example.com"),
            ("A.Example.COM.", "a.example.com"),
            ("*.example.com", ".example.com"),
            ("localhost", "localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("1.2.3.example", "1.2.3.example"),
        ] {
            assert_eq!(DnsName::parse(text).unwrap().key(), key);
        }
        let long = format!("{}.example", ["a".repeat(60).as_str(); 4].join("."));
        for text in [
            "",
            ".",
            "*",
            "*.",
            "*.*.a",
            "a.*.b",
            "a*.b",
            ".a",
            "a..b",
            "-a.b",
            "a-.b",
            "a b.c",
            "127.0.0.1",
            "[::1]",
            "a/b.c",
            "../etc",
            "_.example.com",
            "ä.example",
            "a:80",
            &long,
        ] {
            assert!(DnsName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let name = |text: &str| DnsName::parse(text).unwrap();
        assert!(name("*.example.com").covers(&name("a.example.com")));
        assert!(name("*.example.com").covers(&name("*.example.com")));
        assert!(name("a.example.com").covers(&name("a.example.com")));
        for other in ["example.com", "b.a.example.com", "a.example.org", "*.a.example.com"] {
            assert!(!name("*.example.com").covers(&name(other)), "{other}");
        }
        assert!(!name("example.com").covers(&name("a.example.com")));
    }

    proptest! {
        #[test]
        fn a_name_has_one_file_which_is_in_its_directory(text in "(\\*\\.)?[a-zA-Z0-9_.*/-]{1,40}") {
            if let Ok(name) = DnsName::parse(&text) {
                let file = name.file_name("pem");
                prop_assert!(!file.contains('/') && !file.starts_with('.') && file.len() <= 255);
                prop_assert_eq!(DnsName::of_file(&file, "pem"), Some(name.clone()));
                prop_assert_eq!(DnsName::parse(&name.to_string()).unwrap(), name);
            }
        }
    }
}
