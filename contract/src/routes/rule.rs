//! What a pattern leads to: a backend URL as the older platform has it, or an object that says more.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::RouteTableError;
use super::backend::{Backend, BackendUrl};
use super::pattern::Pattern;
use super::template::{Template, TemplateError};
use crate::limits::{ROUTE_RESPONSE_BYTES, ROUTE_TIMEOUT_MS, UPSTREAMS, URL_BYTES};
use crate::strict::Strict;
use crate::{ContentId, DomainName};

/// A target and when it applies.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Request methods, upper case; none means all.
    pub methods: Vec<String>,
    /// Hosts; none means all.
    pub hosts: Vec<DomainName>,
    /// What answers.
    pub target: Target,
}

/// What answers a request that a route matches.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The request is forwarded.
    Backend(Backend),
    /// The code of another function of the project, by slug or id (`fn_…`); its own routes do not count.
    Function(String),
    /// A directory of files.
    Site(ContentId),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// Always the same.
    Response(FixedResponse),
}

/// Where a client is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Everything before the path: `https://example.com`, or nothing for the same host.
    pub origin: String,
    /// The path.
    pub path: Template,
    /// A query of its own; without it the request's.
    pub query: Option<String>,
}

/// A response that is written in the table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedResponse {
    /// 200 to 599.
    #[serde(default = "ok")]
    pub status: u16,
    /// By name.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Text.
    #[serde(default)]
    pub body: String,
}

const fn ok() -> u16 {
    200
}

/// Why an object is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A member with a wrong type, or one that is not known.
    #[error("{0}")]
    Syntax(String),
    /// Two targets in one rule.
    #[error("give one of url, urls, function, site, redirect and response")]
    Several,
    /// No `http` or `https` URL.
    #[error("{0:?} is not an http:// or https:// URL of at most {URL_BYTES} bytes, without a user name")]
    Url(String),
    /// None or too many.
    #[error("urls has {0} entries; give 1 to {UPSTREAMS}")]
    Urls(usize),
    /// Out of range.
    #[error("timeoutMs is {0}; give 1 to {ROUTE_TIMEOUT_MS}")]
    Timeout(u64),
    /// A member that its target has no use for.
    #[error("{0}")]
    Misplaced(&'static str),
    /// Not a method.
    #[error("{0:?} is not a request method in upper case")]
    Method(String),
    /// Not a host.
    #[error("hosts: {0}")]
    Host(String),
    /// Not a CID.
    #[error("site: {0}")]
    Site(String),
    /// Not a status that redirects.
    #[error("{0} is not a status of a redirect; use 301, 302, 303, 307 or 308")]
    RedirectStatus(u16),
    /// Neither a path nor an absolute URL.
    #[error("{0:?} is no place to redirect to; use a path or an http:// or https:// URL")]
    Location(String),
    /// Cannot be sent.
    #[error("response: {0}")]
    Response(String),
    /// A placeholder that the pattern does not fill.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleDocument {
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    hosts: Vec<String>,
    url: Option<String>,
    urls: Option<Vec<String>>,
    timeout_ms: Option<u64>,
    function: Option<String>,
    site: Option<String>,
    redirect: Option<String>,
    status: Option<u16>,
    response: Option<FixedResponse>,
}

/// One of these makes an object a rule; without it the older platform's message is the better one.
const KINDS: [&str; 6] = ["url", "urls", "function", "site", "redirect", "response"];

impl Rule {
    pub(super) fn parse(pattern: &Pattern, source: &Value) -> Result<Self, RouteTableError> {
        let path = || pattern.as_str().to_owned();
        match source {
            Value::String(url) => Ok(Self::to(Target::Backend(compatible(pattern, url)?))),
            Value::Object(members) if KINDS.iter().any(|kind| members.contains_key(*kind)) => {
                let rule = Self::from_object(pattern, source);
                rule.map_err(|error| RouteTableError::Rule { path: path(), error })
            }
            _ => Err(RouteTableError::TargetType(path())),
        }
    }

    fn to(target: Target) -> Self {
        Self { methods: Vec::new(), hosts: Vec::new(), target }
    }

    fn from_object(pattern: &Pattern, source: &Value) -> Result<Self, RuleError> {
        let document = RuleDocument::deserialize(Strict(source));
        let document = document.map_err(|error| RuleError::Syntax(error.to_string()))?;
        let is_method =
            |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        if let Some(other) = document.methods.iter().find(|method| !is_method(method)) {
            return Err(RuleError::Method(other.clone()));
        }
        let hosts = document.hosts.iter().map(|host| DomainName::parse(host));
        let hosts = hosts.collect::<Result<_, _>>().map_err(|error| RuleError::Host(error.to_string()))?;
        let target = target(pattern, &document)?;
        Ok(Self { methods: document.methods, hosts, target })
    }

    /// Whether the rule is for a request with this method to this host, lower case and without port.
    #[must_use]
    pub fn applies(&self, method: &str, host: &str) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|known| known == method))
            && (self.hosts.is_empty() || self.hosts.iter().any(|name| name.covers(host)))
    }
}

/// A target URL, judged as the older platform does.
fn compatible(pattern: &Pattern, text: &str) -> Result<Backend, RouteTableError> {
    let (path, url) = (pattern.as_str().to_owned(), text.to_owned());
    if Url::parse(text).is_err() {
        return Err(RouteTableError::TargetUrl { path, url });
    }
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return Err(RouteTableError::Protocol { path, url });
    }
    match BackendUrl::joined(text) {
        Some(backend) => Ok(Backend { urls: vec![backend], timeout_ms: None }),
        None => Err(RouteTableError::TargetUrl { path, url }),
    }
}

fn target(pattern: &Pattern, document: &RuleDocument) -> Result<Target, RuleError> {
    let kinds = [
        document.url.is_some(),
        document.urls.is_some(),
        document.function.is_some(),
        document.site.is_some(),
        document.redirect.is_some(),
        document.response.is_some(),
    ];
    if kinds.iter().filter(|given| **given).count() != 1 {
        return Err(RuleError::Several);
    }
    let backend = document.url.is_some() || document.urls.is_some();
    if document.timeout_ms.is_some() && !backend {
        return Err(RuleError::Misplaced("timeoutMs is for url and urls only"));
    }
    if document.status.is_some() && document.redirect.is_none() {
        return Err(RuleError::Misplaced("status is for redirect only; a response has its status within"));
    }
    if backend {
        let urls = document.url.iter().chain(document.urls.iter().flatten());
        return backends(pattern, urls, document.timeout_ms).map(Target::Backend);
    }
    if let Some(location) = &document.redirect {
        return redirect(pattern, location, document.status.unwrap_or(308)).map(Target::Redirect);
    }
    if let Some(site) = &document.site {
        return ContentId::parse(site).map(Target::Site).map_err(|error| RuleError::Site(error.to_string()));
    }
    match (&document.function, &document.response) {
        (Some(function), _) => Ok(Target::Function(function.clone())),
        (None, Some(response)) => response.check().map(|()| Target::Response(response.clone())),
        (None, None) => Err(RuleError::Several),
    }
}

fn backends<'a>(
    pattern: &Pattern,
    urls: impl Iterator<Item = &'a String>,
    timeout_ms: Option<u64>,
) -> Result<Backend, RuleError> {
    let parse = |text: &String| {
        let invalid = || RuleError::Url(text.chars().take(200).collect());
        let url = Url::parse(text).map_err(|_| invalid())?;
        let plain = url.username().is_empty() && url.password().is_none() && text.len() <= URL_BYTES;
        let http = text.starts_with("http://") || text.starts_with("https://");
        if plain && http { BackendUrl::filled(text, pattern) } else { Err(invalid()) }
    };
    let urls: Vec<BackendUrl> = urls.map(parse).collect::<Result<_, _>>()?;
    if urls.is_empty() || urls.len() > UPSTREAMS {
        return Err(RuleError::Urls(urls.len()));
    }
    let timeout = |ms: u64| match u32::try_from(ms) {
        Ok(short @ 1..=ROUTE_TIMEOUT_MS) => Ok(short),
        _ => Err(RuleError::Timeout(ms)),
    };
    Ok(Backend { urls, timeout_ms: timeout_ms.map(timeout).transpose()? })
}

fn redirect(pattern: &Pattern, location: &str, status: u16) -> Result<Redirect, RuleError> {
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Err(RuleError::RedirectStatus(status));
    }
    let invalid = || RuleError::Location(location.chars().take(200).collect());
    // `//host` would be another host's path.
    let relative = location.starts_with('/') && !location.starts_with("//") && !location.starts_with("/\\");
    let absolute = location.starts_with("http://") || location.starts_with("https://");
    if !(relative || absolute) || location.len() > URL_BYTES {
        return Err(invalid());
    }
    let base = Url::parse("http://same.invalid").map_err(|_| invalid())?;
    let url = base.join(location).map_err(|_| invalid())?;
    let origin = if absolute { url.origin().ascii_serialization() } else { String::new() };
    let path = Template::parse(url.path(), pattern)?;
    let fragment = url.fragment().map(|fragment| format!("#{fragment}")).unwrap_or_default();
    let query = match (url.query(), fragment.as_str()) {
        (None, "") => None,
        (None, fragment) => Some(fragment.to_owned()),
        (Some(query), fragment) => Some(format!("?{query}{fragment}")),
    };
    Ok(Redirect { status, origin, path, query })
}

impl FixedResponse {
    fn check(&self) -> Result<(), RuleError> {
        let fault = |text: String| Err(RuleError::Response(text));
        if !(200..=599).contains(&self.status) {
            return fault(format!("{} is not a status from 200 to 599", self.status));
        }
        if self.body.len() > ROUTE_RESPONSE_BYTES {
            return fault(format!("the body has more than {ROUTE_RESPONSE_BYTES} bytes"));
        }
        for (name, value) in &self.headers {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(token) {
                return fault(format!("{name:?} is not the name of a header"));
            }
            if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
                return fault(format!("the header {name:?} is the connection's own"));
            }
            if !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
                return fault(format!("the header {name:?} has a value with characters outside of ASCII"));
            }
        }
        Ok(())
    }
}

/// Headers that say how a message is sent.
const FRAMING: [&str; 7] =
    ["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
