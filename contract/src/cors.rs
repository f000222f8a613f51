//! Which web pages of other origins may call a function (CORS, in the Fetch standard). A deployment's manifest carries
//! it, and the edge answers for the function.

use serde::{Deserialize, Serialize};

/// Origins, methods and headers that a rule may list, each.
const ENTRIES: usize = 64;

/// An origin, method or header name, bytes.
const ENTRY_BYTES: usize = 256;

/// The longest time for which a browser may remember an answer: a day. Browsers cut it to two hours or a day.
const MAX_AGE_SECONDS: u32 = 86_400;

/// The rule of one deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Fields")]
pub struct Cors {
    /// Origins whose pages may read responses: `https://app.example.com`, `https://*.example.com` for all names
    /// under it, or `*` for every page.
    origins: Vec<String>,
    /// Methods; empty: those that the Fetch standard knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    methods: Vec<String>,
    /// Request headers; empty: those that the page asks for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<String>,
    /// Response headers that pages may read besides the usual ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exposed_headers: Vec<String>,
    /// Whether pages may send cookies and read the answers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    credentials: bool,
    /// How long a browser may remember what is allowed, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<u32>,
}

/// A rule as it is written, before it is judged.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fields {
    /// See [`Cors`].
    pub origins: Vec<String>,
    /// See [`Cors`].
    pub methods: Vec<String>,
    /// See [`Cors`].
    pub headers: Vec<String>,
    /// See [`Cors`].
    pub exposed_headers: Vec<String>,
    /// See [`Cors`].
    pub credentials: bool,
    /// See [`Cors`].
    pub max_age: Option<u32>,
}

/// Why a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorsError {
    /// Nobody.
    #[error("CORS needs at least one origin, such as https://app.example.com")]
    NoOrigin,
    /// Not an origin.
    #[error(
        "{0:?} is not an origin; use one such as https://app.example.com or http://localhost:3000, https://*.example.com, or *"
    )]
    Origin(String),
    /// Not a method or header name.
    #[error("{0:?} is not the name of a method or header")]
    Name(String),
    /// Browsers refuse it, because every page could then act as its visitors.
    #[error("every origin (*) cannot be allowed together with credentials; list the origins")]
    AnyWithCredentials,
    /// Too long.
    #[error("a browser may remember CORS for {MAX_AGE_SECONDS} seconds at most, not {0}")]
    MaxAge(u32),
    /// Too many.
    #[error("CORS lists {0} names in one place; {ENTRIES} are the most")]
    TooMany(usize),
}

impl TryFrom<Fields> for Cors {
    type Error = CorsError;

    fn try_from(fields: Fields) -> Result<Self, CorsError> {
        let Fields { origins, methods, headers, exposed_headers, credentials, max_age } = fields;
        let longest = [&origins, &methods, &headers, &exposed_headers].into_iter().map(Vec::len).max();
        if let Some(many) = longest.filter(|many| *many > ENTRIES) {
            return Err(CorsError::TooMany(many));
        }
        if origins.is_empty() {
            return Err(CorsError::NoOrigin);
        }
        if let Some(wrong) = origins.iter().find(|origin| !is_origin(origin)) {
            return Err(CorsError::Origin(shortened(wrong)));
        }
        let mut names = methods.iter().chain(&headers).chain(&exposed_headers);
        if let Some(wrong) = names.find(|name| !is_token(name)) {
            return Err(CorsError::Name(shortened(wrong)));
        }
        if credentials && origins.iter().any(|origin| origin == "*") {
            return Err(CorsError::AnyWithCredentials);
        }
        if let Some(seconds) = max_age.filter(|seconds| *seconds > MAX_AGE_SECONDS) {
            return Err(CorsError::MaxAge(seconds));
        }
        Ok(Self { origins, methods, headers, exposed_headers, credentials, max_age })
    }
}

impl Cors {
    /// Whether pages of every origin may read responses.
    #[must_use]
    pub fn allows_any(&self) -> bool {
        self.origins.iter().any(|origin| origin == "*")
    }

    /// Whether pages of this origin may, given as browsers send it.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|pattern| matches(pattern, origin))
    }

    /// Methods; empty: those that the Fetch standard knows.
    #[must_use]
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    /// Request headers; empty: those that the page asks for.
    #[must_use]
    pub fn headers(&self) -> &[String] {
        &self.headers
    }

    /// Response headers that pages may read.
    #[must_use]
    pub fn exposed_headers(&self) -> &[String] {
        &self.exposed_headers
    }

    /// Whether pages may send cookies.
    #[must_use]
    pub fn credentials(&self) -> bool {
        self.credentials
    }

    /// How long a browser may remember what is allowed, seconds.
    #[must_use]
    pub fn max_age(&self) -> Option<u32> {
        self.max_age
    }
}

/// A scheme and a lower-case host, perhaps with a port; the host's first label may be a star.
fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let host = authority.strip_prefix("*.").unwrap_or(authority);
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b);
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    text.len() <= ENTRY_BYTES
        && !scheme.is_empty()
        && scheme.bytes().all(letters)
        && !host.is_empty()
        && host.bytes().all(fits)
}

fn matches(pattern: &str, origin: &str) -> bool {
    if pattern == "*" || pattern == origin {
        return true;
    }
    let Some((scheme, suffix)) = pattern.split_once("://*") else { return false };
    let name = origin.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    name.and_then(|name| name.strip_suffix(suffix)).is_some_and(|label| !label.is_empty())
}

/// A token of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=ENTRY_BYTES).contains(&text.len()) && text.bytes().all(fits)
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(origins: &[&str]) -> Result<Cors, CorsError> {
        let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        Cors::try_from(Fields { origins, ..Fields::default() })
    }

    #[test]
    fn origins_match_as_they_are_written() {
        let cors =
            rule(&["https://app.example.com", "https://*.example.org", "http://localhost:3000"]).unwrap();
        for allowed in [
            "https://app.example.com",
            "https://a.example.org",
            "https://a.b.example.org",
            "http://localhost:3000",
        ] {
            assert!(cors.allows(allowed), "{allowed}");
        }
        for refused in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.test",
            "https://example.org",
            "https://evilexample.org",
            "https://.example.org",
            "http://localhost",
            "null",
            "",
        ] {
            assert!(!cors.allows(refused), "{refused}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        assert_eq!(rule(&[]), Err(CorsError::NoOrigin));
        for wrong in [
            "example.com",
            "https://",
            "https://*",
            "https://a.example.com/",
            "https://A.example.com",
            "null",
        ] {
            assert!(matches!(rule(&[wrong]), Err(CorsError::Origin(_))), "{wrong}");
        }
        let any = Fields { origins: vec!["*".into()], credentials: true, ..Fields::default() };
        assert_eq!(Cors::try_from(any), Err(CorsError::AnyWithCredentials));
        let header = Fields { origins: vec!["*".into()], headers: vec!["a b".into()], ..Fields::default() };
        assert!(matches!(Cors::try_from(header), Err(CorsError::Name(_))));
    }
}
