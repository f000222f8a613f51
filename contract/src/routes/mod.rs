//! Route tables: path pattern -> target, as AF and Fleek users write them, and what is possible beyond that.
//! Says what a table means; finding the rule for a request is the edge's.

mod backend;
mod pattern;
mod rule;
mod template;

use std::fmt;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

pub use self::backend::{Backend, BackendUrl, Scheme};
pub use self::pattern::{Class, Pattern, Rank, Token};
pub use self::rule::{FixedResponse, Redirect, Rule, RuleError, Target};
pub use self::template::{Captures, Template, TemplateError};
use crate::limits::{PATTERN_BYTES, ROUTES, ROUTES_BYTES};

/// Path patterns and what each leads to, in the order in which the user wrote them.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteTable {
    routes: Vec<Route>,
}

/// A pattern and its rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Which paths.
    pub pattern: Pattern,
    /// Asked in order; the first one whose conditions hold applies.
    pub rules: Vec<Rule>,
    /// What the user wrote.
    source: Value,
}

/// Why a route table is refused. The first six texts are those of the older platform.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteTableError {
    /// A list, a text, a number.
    #[error("Routes must be an object mapping path patterns to target URLs")]
    NotAnObject,
    /// `{}`
    #[error("Routes object cannot be empty")]
    Empty,
    /// A pattern without its first slash.
    #[error("Invalid path pattern \"{0}\". Path patterns must start with \"/\"")]
    Pattern(String),
    /// Neither a text nor an object that names a target.
    #[error("Invalid target URL for path \"{0}\". Target must be a string")]
    TargetType(String),
    /// No URL.
    #[error("Invalid target URL \"{url}\" for path \"{path}\". Must be a valid URL")]
    TargetUrl {
        /// The pattern.
        path: String,
        /// What was given.
        url: String,
    },
    /// Another protocol.
    #[error("Invalid target URL \"{url}\" for path \"{path}\". Must use http:// or https:// protocol")]
    Protocol {
        /// The pattern.
        path: String,
        /// What was given.
        url: String,
    },
    /// An object that is no rule.
    #[error("Invalid target for path \"{path}\": {error}")]
    Rule {
        /// The pattern.
        path: String,
        /// Why.
        error: RuleError,
    },
    /// More than [`ROUTES`].
    #[error("{0} routes are too many; at most {ROUTES} are allowed")]
    TooMany(usize),
    /// More than [`PATTERN_BYTES`].
    #[error("Invalid path pattern \"{0}…\". A pattern has at most {PATTERN_BYTES} bytes")]
    PatternTooLong(String),
    /// More than [`ROUTES_BYTES`].
    #[error("the route table has {0} bytes; at most {ROUTES_BYTES} are allowed")]
    TooLarge(usize),
}

impl RouteTable {
    /// Checks a JSON document, whose members must be in the order in which they were written; `null` is no table.
    ///
    /// # Errors
    /// The first fault, as the older platform finds it: in the order of the members, and of the checks above.
    pub fn parse(document: Value) -> Result<Option<Self>, RouteTableError> {
        let members = match document {
            Value::Null => return Ok(None),
            Value::Object(members) => members,
            _ => return Err(RouteTableError::NotAnObject),
        };
        match members.len() {
            0 => return Err(RouteTableError::Empty),
            count if count > ROUTES => return Err(RouteTableError::TooMany(count)),
            _ => {}
        }
        let routes = members.into_iter().map(|(pattern, source)| Route::parse(pattern, source));
        let table = Self { routes: routes.collect::<Result<_, _>>()? };
        let size = table.to_string().len();
        if size > ROUTES_BYTES { Err(RouteTableError::TooLarge(size)) } else { Ok(Some(table)) }
    }

    /// Reads JSON text.
    ///
    /// # Errors
    /// When the text is not JSON (told as a table that is no object), or no table.
    pub fn from_json(text: &str) -> Result<Option<Self>, RouteTableError> {
        Self::parse(serde_json::from_str(text).map_err(|_| RouteTableError::NotAnObject)?)
    }

    /// In the order of the table.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

impl Route {
    fn parse(pattern: String, source: Value) -> Result<Self, RouteTableError> {
        if !pattern.starts_with('/') {
            return Err(RouteTableError::Pattern(pattern));
        }
        if pattern.len() > PATTERN_BYTES {
            return Err(RouteTableError::PatternTooLong(pattern.chars().take(80).collect()));
        }
        let pattern = Pattern::new(pattern);
        let rules = match &source {
            Value::Array(several) if !several.is_empty() => {
                several.iter().map(|one| Rule::parse(&pattern, one)).collect::<Result<_, _>>()?
            }
            one => vec![Rule::parse(&pattern, one)?],
        };
        Ok(Self { pattern, rules, source })
    }
}

/// As JSON, as the user wrote it.
impl fmt::Display for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for RouteTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.routes.len()))?;
        for route in &self.routes {
            map.serialize_entry(route.pattern.as_str(), &route.source)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for RouteTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Value::deserialize(deserializer)?;
        let table = Self::parse(document).map_err(serde::de::Error::custom)?;
        table.ok_or_else(|| serde::de::Error::custom(RouteTableError::NotAnObject))
    }
}

#[cfg(test)]
mod tests;
