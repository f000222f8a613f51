//! Why an upload is refused, and what its client is told.

use std::sync::Arc;

use af_content::car::CarError;
use af_content::private::{PrivateError, PrivateTreeError};
use af_content::source::FetchError;
use af_content::unixfs::{ExportError, NodeError, TreeError};
use af_content::{FileReadError, StoreError};
use af_contract::{Blake3Hash, limits};

use super::Fault;
use super::component::ComponentError;
use super::upload::FETCH_TIME;

/// The connection broke while the body came.
#[derive(Debug, thiserror::Error)]
#[error("the upload broke off")]
pub struct Broken(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Why an upload is refused. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Larger than a component may be, or one with assets.
    #[error(
        "the upload is too large: a component may have {} MiB, and its assets {} MiB",
        limits::CODE_BYTES >> 20,
        limits::ASSETS_BYTES >> 20
    )]
    TooLarge,
    /// Larger than a site may be.
    #[error("the upload is too large: a site may have {} MiB", limits::ASSETS_BYTES >> 20)]
    SiteTooLarge,
    /// Larger than what a project may store.
    #[error("the upload is too large; store it in parts")]
    TooMuch,
    /// Not a CAR, cut off, or with a block that does not match its CID.
    #[error(transparent)]
    Car(#[from] CarError),
    /// The CAR is of something else.
    #[error("the CAR's roots are {found}, but the request says {claimed}")]
    Cid {
        /// In the request.
        claimed: String,
        /// In the CAR.
        found: String,
    },
    /// The blocks are fine, and together another file than claimed.
    #[error("the file has BLAKE3 {found}, but the request says {claimed}")]
    Blake3 {
        /// In the request.
        claimed: Blake3Hash,
        /// Of the file.
        found: Blake3Hash,
    },
    /// The blocks are no complete file.
    #[error("the blocks do not make up the file: {0}")]
    File(#[source] FileReadError),
    /// The blocks are no directory tree that a function may have, or a site be.
    #[error("the files are refused: {0}")]
    Assets(#[source] FileReadError),
    /// The file is no function.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The component cannot be decrypted with the key that came with it.
    #[error("the component cannot be decrypted: {0}")]
    Private(#[source] PrivateError),
    /// Its files cannot.
    #[error("the files cannot be decrypted: {0}")]
    PrivateAssets(#[source] PrivateTreeError),
    /// The client went away.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// None of our sources has it.
    #[error(transparent)]
    Fetch(#[from] Arc<FetchError>),
    /// They send it too slowly.
    #[error(
        "the content could not be fetched within {} minutes; what came is kept for a while, so try again, or send it",
        FETCH_TIME.as_secs() / 60
    )]
    TooSlow,
    /// Our disk.
    #[error("the server could not store the upload; its disk may be full, and its log says more")]
    Storage(#[source] StoreError),
}

impl UploadError {
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::TooLarge
            | Self::SiteTooLarge
            | Self::TooMuch
            | Self::Assets(FileReadError::Tree(TreeError::TooLarge)) => Fault::TooLarge,
            Self::Storage(_) => Fault::Internal,
            Self::Broken(_) => Fault::Invalid,
            Self::Fetch(error) => match **error {
                FetchError::Store(_) | FetchError::Interrupted(_) => Fault::Internal,
                _ => Fault::Refused,
            },
            _ => Fault::Refused,
        }
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::TooLarge | Self::SiteTooLarge | Self::TooMuch => "upload_too_large",
            Self::Car(CarError::Mismatch(_)) => "block_corrupt",
            Self::Car(CarError::Truncated(_)) => "car_truncated",
            Self::Car(_) => "car_invalid",
            Self::Cid { .. } => "cid_mismatch",
            Self::Blake3 { .. } => "blake3_mismatch",
            Self::File(FileReadError::Missing(_)) | Self::Assets(FileReadError::Missing(_)) => {
                "block_missing"
            }
            Self::File(FileReadError::Unused(_)) => "block_unused",
            Self::File(_) => "file_invalid",
            Self::Assets(FileReadError::Tree(error)) => tree_code(error),
            Self::Assets(_) => "assets_invalid",
            Self::Component(error) => error.code(),
            Self::Private(error) => private_code(error),
            Self::PrivateAssets(PrivateTreeError::Private { source, .. }) => private_code(source),
            Self::PrivateAssets(PrivateTreeError::Blocks(_)) => "assets_invalid",
            Self::Broken(_) => "upload_broken",
            Self::Fetch(error) => match **error {
                FetchError::NoSource(_) => "content_source_missing",
                FetchError::Nowhere { .. } => "content_unavailable",
                FetchError::Node(_) => "file_invalid",
                FetchError::Exceeded(_) => "upload_too_large",
                FetchError::Store(_) | FetchError::Interrupted(_) => "internal",
            },
            Self::TooSlow => "content_unavailable",
            Self::Storage(_) => "internal",
        }
    }
}

fn private_code(error: &PrivateError) -> &'static str {
    match error {
        PrivateError::Key { .. } => "content_key_mismatch",
        _ => "private_content_invalid",
    }
}

fn tree_code(error: &TreeError) -> &'static str {
    match error {
        TreeError::TooManyEntries => "assets_too_many_entries",
        TreeError::TooDeep => "assets_too_deep",
        TreeError::TooLarge | TreeError::NodesTooLarge => "assets_too_large",
        TreeError::Node(NodeError::Symlink(_)) => "assets_symlink",
        _ => "assets_invalid",
    }
}

impl From<FileReadError> for UploadError {
    fn from(error: FileReadError) -> Self {
        match error {
            FileReadError::Store(error) => Self::Storage(error),
            FileReadError::Export(ExportError::TooLarge(_)) => Self::TooLarge,
            error @ FileReadError::Tree(_) => Self::Assets(error),
            error => Self::File(error),
        }
    }
}
