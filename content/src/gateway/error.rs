//! Why the gateway sends no content, and which status the specifications want for that.

use af_contract::{ContentId, ContentIdError};
use http::header::{ALLOW, CONTENT_RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::entity_bytes::EntityBytesError;
use crate::disk::StoreError;
use crate::serving::path::PathError;
use crate::unixfs::{DirectoryError, NodeError};

/// A block that is no DAG-CBOR.
#[derive(Debug, thiserror::Error)]
#[error("block {id} is no DAG-CBOR: {reason}")]
pub struct DocumentError {
    /// The block.
    pub id: ContentId,
    /// What the decoder said.
    pub reason: String,
}

/// Why a DAG cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum DagError {
    /// A block is not on this node.
    #[error("block {0} is not here")]
    Missing(ContentId),
    /// The disk failed, or the block is corrupt.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A block is what its id says, and no node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Likewise, of a directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Likewise, of a document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A link to what this platform does not handle.
    #[error("a link leads to a block that cannot be used")]
    Link(#[from] ContentIdError),
    /// More than one request may make this node read.
    #[error("there is more than one request may ask for: {0}")]
    TooMuch(&'static str),
    /// This node stops.
    #[error("reading was interrupted")]
    Interrupted,
}

/// Why the gateway sends no content.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Only reading is possible.
    #[error("content can be read only; use GET or HEAD")]
    Method,
    /// The gateway is private.
    #[error("this gateway is private; send its token as Authorization: Bearer TOKEN")]
    Unauthenticated,
    /// Names under another name than `/ipfs/`.
    #[error("only /ipfs/ is served here; names of IPNS are not resolved")]
    Namespace,
    /// There is no CID, or none that the platform handles.
    #[error(transparent)]
    Cid(#[from] ContentIdError),
    /// The path has no names.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Deeper than any tree.
    #[error("the path has more than {0} names")]
    TooDeep(usize),
    /// A parameter with a value that it cannot have.
    #[error("{0} has a value that is not supported: {1:?}")]
    Parameter(&'static str, String),
    /// `entity-bytes` in particular.
    #[error(transparent)]
    EntityBytes(#[from] EntityBytesError),
    /// `entity-bytes` of a file that is shorter.
    #[error("the file has {0} bytes, and none of those that are asked for")]
    Outside(u64),
    /// A page wants to control others.
    #[error("a service worker needs a path that ends with a slash")]
    ServiceWorker,
    /// None of the formats that the client takes.
    #[error("the content cannot be had in a format that is asked for; add ?format=raw or ?format=car")]
    NotAcceptable,
    /// A format of the specifications that is not supported.
    #[error("the format {0} is not supported; add ?format=raw or ?format=car")]
    Format(&'static str),
    /// A path into a document behind its last link.
    #[error("{0:?} is a value within a document; only links can be followed")]
    Remainder(String),
    /// Never followed.
    #[error("{0} is a symbolic link, and those are not followed; add ?format=raw for the link itself")]
    Symlink(ContentId),
    /// The content is here, and has nothing of this name.
    #[error("there is nothing named {0:?} in {1}")]
    NotFound(String, String),
    /// The content is not here.
    #[error("block {0} is not on this server, which fetches nothing for its clients")]
    Missing(ContentId),
    /// The same, for whoever asks whether it is.
    #[error("the content is not on this server")]
    NotCached,
    /// The client wants another version.
    #[error("the content is another one than the request is for")]
    Precondition,
    /// Behind the end.
    #[error("the file has {0} bytes, and none of those that are asked for")]
    Range(u64),
    /// The content is no file and no directory.
    #[error("the content cannot be read as files; add ?format=raw for its block")]
    Unreadable(#[source] DagError),
    /// A block is not what its id says any more.
    #[error("the content is damaged on this server")]
    Corrupt(#[source] DagError),
    /// The disk failed, or this node stops.
    #[error("the content cannot be read right now")]
    Storage(#[source] DagError),
    /// All places are taken.
    #[error("the gateway is busy; try again")]
    Busy,
}

impl From<DagError> for GatewayError {
    fn from(error: DagError) -> Self {
        match error {
            DagError::Missing(id) => Self::Missing(id),
            DagError::Store(StoreError::Io { .. }) | DagError::Interrupted => Self::Storage(error),
            DagError::Store(_) => Self::Corrupt(error),
            DagError::Node(NodeError::Symlink(id)) => Self::Symlink(id),
            DagError::Node(_)
            | DagError::Directory(_)
            | DagError::Document(_)
            | DagError::Link(_)
            | DagError::TooMuch(_) => Self::Unreadable(error),
        }
    }
}

impl GatewayError {
    /// The status that the specifications want, and a code for programs. Both planes answer alike, so this is decided here.
    #[must_use]
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Self::Namespace | Self::Format(_) | Self::Remainder(_) | Self::Symlink(_) => {
                (StatusCode::NOT_IMPLEMENTED, "not_supported")
            }
            Self::Cid(_) => (StatusCode::BAD_REQUEST, "invalid_cid"),
            Self::Path(_) | Self::TooDeep(_) => (StatusCode::BAD_REQUEST, "invalid_path"),
            Self::Parameter(..) | Self::EntityBytes(_) | Self::Outside(_) => {
                (StatusCode::BAD_REQUEST, "invalid_parameter")
            }
            Self::ServiceWorker => (StatusCode::BAD_REQUEST, "service_worker_refused"),
            Self::NotAcceptable => (StatusCode::NOT_ACCEPTABLE, "not_acceptable"),
            Self::NotFound(..) => (StatusCode::NOT_FOUND, "path_not_found"),
            Self::Missing(_) => (StatusCode::NOT_FOUND, "content_missing"),
            Self::NotCached => (StatusCode::PRECONDITION_FAILED, "content_missing"),
            Self::Precondition => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            Self::Range(_) => (StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable"),
            Self::Unreadable(_) => (StatusCode::BAD_REQUEST, "content_unreadable"),
            Self::Corrupt(_) => (StatusCode::INTERNAL_SERVER_ERROR, "content_corrupt"),
            Self::Storage(_) => (StatusCode::SERVICE_UNAVAILABLE, "storage_failed"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        }
    }

    /// What the status promises to come with it.
    pub fn explain(&self, headers: &mut HeaderMap) {
        match self {
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
            }
            Self::Unauthenticated => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Range(size) => {
                let range = HeaderValue::try_from(format!("bytes */{size}"));
                headers.extend(range.map(|range| (CONTENT_RANGE, range)));
            }
            Self::Busy | Self::Storage(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        super::headers::share(headers);
    }
}
