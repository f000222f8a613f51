//! Backends: where a matched request is forwarded to, and what becomes of its path.

use url::Url;

use super::pattern::Pattern;
use super::rule::RuleError;
use super::template::{Captures, Template, TemplateError};

/// Targets that are equal: a request goes to one of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// At least one.
    pub urls: Vec<BackendUrl>,
    /// To the response's header; without it the default.
    pub timeout_ms: Option<u32>,
}

/// One absolute `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendUrl {
    /// How to talk to it.
    pub scheme: Scheme,
    /// Host, and port where it is not the scheme's. A user's name in the URL is left out.
    pub authority: String,
    path: Path,
}

/// How to talk to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Unencrypted.
    Http,
    /// TLS.
    Https,
}

/// What is made of a request's path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Path {
    /// This, and what `*` stood for.
    Joined(String),
    /// This and a query, and what `*` stood for as a part of the query: the older platform joins texts.
    InQuery(String),
    /// This, always: a fragment swallowed the rest.
    Fixed(String),
    /// Filled in.
    Template(Template),
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl BackendUrl {
    /// A target as the older platform has it. The text is an `http` or `https` URL.
    pub(super) fn joined(text: &str) -> Option<Self> {
        let base = text.strip_suffix('/').unwrap_or(text);
        let url = Url::parse(base).ok()?;
        let path = if url.path() == "/" && !base.ends_with('/') { "" } else { url.path() };
        let path = match (url.query(), url.fragment()) {
            (None, None) => Path::Joined(path.to_owned()),
            (Some(query), None) => Path::InQuery(format!("{}?{query}", url.path())),
            (None, Some(_)) => Path::Fixed(url.path().to_owned()),
            (Some(query), Some(_)) => Path::Fixed(format!("{}?{query}", url.path())),
        };
        Self::with(&url, path)
    }

    /// A target that is filled in where it has a `*` or a parameter of the pattern.
    pub(super) fn filled(text: &str, pattern: &Pattern) -> Result<Self, RuleError> {
        let invalid = || RuleError::Url(text.to_owned());
        let url = Url::parse(text).map_err(|_| invalid())?;
        let plain = || Self::joined(text).ok_or_else(invalid);
        if url.query().is_some() || url.fragment().is_some() {
            return plain();
        }
        match Template::parse(url.path(), pattern)? {
            template if template.is_fixed() => plain(),
            template => Self::with(&url, Path::Template(template)).ok_or_else(invalid),
        }
    }

    fn with(url: &Url, path: Path) -> Option<Self> {
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let host = url.host_str()?;
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Some(Self { scheme, authority, path })
    }

    /// The path and query to ask the backend for. `rest` is what the pattern's first `*` stood for, as
    /// [`Pattern::before_wildcard`] tells; `captures` are what all its parts stood for.
    ///
    /// # Errors
    /// When a filled-in path would lead out of where it is in the template.
    pub fn path_and_query(
        &self,
        rest: &str,
        captures: &Captures<'_>,
        query: Option<&str>,
    ) -> Result<String, TemplateError> {
        let slash = if rest.is_empty() || rest.starts_with('/') { "" } else { "/" };
        let path = match &self.path {
            Path::Joined(base) if base.is_empty() && rest.is_empty() => "/".to_owned(),
            Path::Joined(base) => format!("{base}{slash}{rest}"),
            Path::InQuery(base) => {
                let and = query.map_or_else(String::new, |query| format!("&{query}"));
                return Ok(format!("{base}{slash}{rest}{and}"));
            }
            Path::Fixed(fixed) => return Ok(fixed.clone()),
            Path::Template(template) => template.fill(captures)?,
        };
        Ok(query.map_or(path.clone(), |query| format!("{path}?{query}")))
    }
}
