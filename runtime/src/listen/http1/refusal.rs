//! Why a connection's bytes are no request that may be read, and the response that says so. It is written by hand,
//! because the HTTP library never sees such bytes.

use std::fmt;

use af_contract::{Problem, limits, problem};

use crate::request_id::RequestId;

/// What is wrong. Each but the last two is how one server can be made to see another request than the one in front
/// of it (RFC 9112, section 11.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not `METHOD target HTTP/1.1`.
    #[error("the request line is not a method, a target and a version with one space between them")]
    RequestLine,
    /// A version that this server does not speak here.
    #[error("this server speaks HTTP/1.1 and HTTP/2")]
    Version,
    /// A line that does not end with CR LF, or a CR elsewhere.
    #[error("a line of the header does not end with CR LF")]
    LineEnd,
    /// A name with other characters than a token's, such as a space before the colon, or a folded line.
    #[error("a line of the header is not a name, a colon and a value")]
    HeaderName,
    /// A control character.
    #[error("a header's value has a control character")]
    HeaderValue,
    /// Not a number, or two of them.
    #[error("the request needs at most one Content-Length, and it has to be a number")]
    Length,
    /// A length and a transfer coding.
    #[error("a request cannot have both Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// A body whose end cannot be found.
    #[error("the last transfer coding of a request has to be chunked, and HTTP/1.0 has none")]
    NotChunked,
    /// `gzip, chunked`
    #[error("this server knows no transfer coding but chunked")]
    UnknownCoding,
    /// In a chunked body.
    #[error("the chunked body is malformed")]
    Chunk,
    /// [`limits::URL_BYTES`]
    #[error("the URL is longer than {} bytes", limits::URL_BYTES)]
    UrlTooLong,
    /// [`limits::HEADER_BYTES`] or [`limits::HEADER_COUNT`]
    #[error(
        "the header is larger than {} bytes or has more than {} lines",
        limits::HEADER_BYTES,
        limits::HEADER_COUNT
    )]
    HeaderTooLarge,
    /// The client was too slow with its header.
    #[error("the request's header did not arrive in time")]
    Timeout,
}

impl Refusal {
    fn status(self) -> (u16, &'static str) {
        match self {
            Self::Version => (505, "HTTP Version Not Supported"),
            Self::UnknownCoding => (501, "Not Implemented"),
            Self::UrlTooLong => (414, "URI Too Long"),
            Self::HeaderTooLarge => (431, "Request Header Fields Too Large"),
            Self::Timeout => (408, "Request Timeout"),
            _ => (400, "Bad Request"),
        }
    }

    /// Stable, for problem documents and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Version => "http_version_not_supported",
            Self::UnknownCoding => "transfer_coding_unknown",
            Self::UrlTooLong => "url_too_long",
            Self::HeaderTooLarge => "header_too_large",
            Self::Timeout => "header_timeout",
            _ => "malformed_request",
        }
    }

    /// The whole response, after which the connection is closed.
    pub fn response(self) -> Vec<u8> {
        let (status, title) = self.status();
        let id = RequestId::next().to_string();
        let problem = Problem::new(status, title, self.code(), self.to_string(), &id);
        // A problem is text and numbers, which always have a JSON form.
        let body = serde_json::to_string(&problem).unwrap_or_default();
        Document { status, title, id: &id, body: &body }.to_string().into_bytes()
    }
}

struct Document<'a> {
    status: u16,
    title: &'a str,
    id: &'a str,
    body: &'a str,
}

impl fmt::Display for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, title, id, body } = self;
        write!(f, "HTTP/1.1 {status} {title}\r\ncontent-type: {}\r\n", problem::CONTENT_TYPE)?;
        write!(f, "content-length: {}\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n{body}", body.len())
    }
}
