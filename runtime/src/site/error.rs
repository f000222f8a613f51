//! Why a site sends none of its files.

use af_content::StoreError;
use af_content::serving::path::PathError;
use af_content::unixfs::DirectoryError;
use af_contract::ContentId;

use super::redirects::RedirectsError;
use crate::content::ReadError;

/// Why a site sends none of its files.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The client's fault.
    #[error("a site's files can be read only; use GET or HEAD")]
    Method,
    /// The client's fault.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A CID that is no directory's, or of which nothing is here.
    #[error("there is no site with the CID {0} on this server")]
    Unknown(ContentId),
    /// The site has nothing there, and no page that says so.
    #[error("the site has no such page")]
    NotFound,
    /// The client asked for another version, with `If-Match`.
    #[error("the file is another one than the request is for")]
    Precondition,
    /// The client asked for bytes behind the end.
    #[error("the file has {size} bytes, and none of those that are asked for")]
    Range {
        /// The file's length, bytes.
        size: u64,
    },
    /// The site's owner has to mend it.
    #[error(transparent)]
    Redirects(#[from] RedirectsError),
    /// A block is not on this node.
    #[error("a part of the site is not on this server")]
    Missing(#[source] ReadError),
    /// And nobody who might have it gives it.
    #[error("a part of the site cannot be fetched right now")]
    Unfetched(#[source] ReadError),
    /// A block is not what its CID says, or not what was to be there.
    #[error("a part of the site is damaged on this server")]
    Corrupt(#[source] ReadError),
    /// The disk failed, or this node stops.
    #[error("the site cannot be read right now")]
    Storage(#[source] ReadError),
}

impl From<ReadError> for SiteError {
    fn from(error: ReadError) -> Self {
        match error {
            // Only the root is expected to be one.
            ReadError::Directory(DirectoryError::NotADirectory(root)) => Self::Unknown(root),
            ReadError::Missing(_) => Self::Missing(error),
            ReadError::Fetch(_) => Self::Unfetched(error),
            ReadError::Store(StoreError::Io { .. }) | ReadError::Interrupted(_) | ReadError::Stopped(_) => {
                Self::Storage(error)
            }
            ReadError::Store(_) | ReadError::Node(_) | ReadError::Directory(_) => Self::Corrupt(error),
        }
    }
}
