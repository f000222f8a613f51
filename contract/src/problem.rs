//! RFC 9457 problem documents: how every error of the edge and the control API looks.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The media type of a [`Problem`].
pub const CONTENT_TYPE: &str = "application/problem+json";

/// An error as the client sees it. `code` is stable; texts may change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:af:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// A sentence that the client can act on.
    pub detail: String,
    /// Stable, for programs: `function_not_found`.
    pub code: String,
    /// The id under which the server logged this request.
    pub request_id: String,
    /// Further members, such as `slug`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Problem {
    /// A problem without further members.
    #[must_use]
    pub fn new(status: u16, title: &str, code: &str, detail: String, request_id: &str) -> Self {
        Self {
            kind: format!("urn:af:problem:{code}"),
            title: title.to_owned(),
            status,
            detail,
            code: code.to_owned(),
            request_id: request_id.to_owned(),
            more: Map::new(),
        }
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }
}
