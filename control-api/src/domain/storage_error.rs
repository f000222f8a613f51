//! Why content is not kept.

use af_content::StoreError;
use af_content::private::PrivateTreeError;
use af_content::traversal::TraversalError;
use af_content::unixfs::{Exceeded, NodeError};
use af_contract::ContentId;

use super::Fault;

/// Why content is not kept.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A block that the project has not sent.
    #[error(
        "the project has not sent block {0}, and this server has no sources to fetch it from; send it with `af storage add` or \
         `af storage import`, or have the server started with --source"
    )]
    Missing(ContentId),
    /// A node that is not UnixFS.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Of another codec.
    #[error("{0} is a document; files and directories can be stored")]
    Document(ContentId),
    /// More blocks than a pin may have.
    #[error("this has more than {0} blocks; store it in parts")]
    TooManyBlocks(usize),
    /// Too large in another way.
    #[error("this cannot be pinned: {0}")]
    Exceeded(Exceeded),
    /// Not encrypted with the key that came with it.
    #[error("this cannot be pinned as private: {0}")]
    Private(#[from] PrivateTreeError),
    /// The project's room is used up.
    #[error(
        "this does not fit: {more} bytes more than the {used} that the project stores are over its limit of {most}{by}; unpin something, prune deployments, or delete a site or a function first, or ask the operator for more"
    )]
    Full {
        /// What it stores.
        used: u64,
        /// What was to come.
        more: u64,
        /// What it may store.
        most: u64,
        /// Nothing, or ` by the plan NAME`.
        by: String,
    },
    /// The project's room is used up, whatever comes.
    #[error(
        "there is no room for this: the project stores {used} bytes, and its limit is {most}{by}; unpin something, prune deployments, or delete a site or a function first, or ask the operator for more"
    )]
    NoRoom {
        /// What it stores.
        used: u64,
        /// What it may store.
        most: u64,
        /// Nothing, or ` by the plan NAME`.
        by: String,
    },
    /// Blocks that nothing was made of take up the room.
    #[error(
        "too many blocks were sent that are not pinned; pin what they are of, or try again after the next sweep"
    )]
    TooManyLoose,
    /// All pins are used up.
    #[error(
        "the project has {used} pins, and its limit is {most}{by}; unpin something first, or ask the operator for more"
    )]
    TooManyPins {
        /// What it has.
        used: u64,
        /// What it may have.
        most: u64,
        /// Nothing, or ` by the plan NAME`.
        by: String,
    },
    /// No such place.
    #[error("there is no place {name:?} to hold content at; {}", listed(known))]
    Place {
        /// As it was given.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A form without a file.
    #[error("the form has no file in it; send at least one")]
    NoFile,
    /// A form that is none.
    #[error("the form cannot be read: {0}")]
    Form(String),
    /// A CAR without roots.
    #[error("the CAR has no root; send one that says what it is of")]
    NoRoot,
    /// Our disk.
    #[error("the block store failed")]
    Store(#[from] StoreError),
}

impl From<TraversalError> for StorageError {
    fn from(error: TraversalError) -> Self {
        match error {
            TraversalError::Node(error) => error.into(),
            TraversalError::Exceeded(Exceeded::Blocks(most)) => Self::TooManyBlocks(most),
            TraversalError::Exceeded(error) => Self::Exceeded(error),
        }
    }
}

impl StorageError {
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Store(_) => Fault::Internal,
            Self::Place { .. } | Self::NoFile | Self::NoRoot | Self::Form(_) => Fault::Invalid,
            Self::Full { .. } | Self::NoRoom { .. } | Self::TooManyLoose | Self::TooManyPins { .. } => {
                Fault::Conflict
            }
            Self::TooManyBlocks(_) | Self::Exceeded(_) => Fault::TooLarge,
            Self::Private(_) | Self::Missing(_) | Self::Node(_) | Self::Document(_) => Fault::Refused,
        }
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "block_missing",
            Self::Node(_) => "node_invalid",
            Self::Document(_) => "document_unsupported",
            Self::TooManyBlocks(_) => "too_many_blocks",
            Self::Exceeded(_) => "dag_too_large",
            Self::Private(_) => "private_content_invalid",
            Self::Full { .. } | Self::NoRoom { .. } => "storage_full",
            Self::TooManyLoose => "storage_loose_blocks",
            Self::TooManyPins { .. } => "too_many_pins",
            Self::Place { .. } => "place_unknown",
            Self::NoFile => "no_file",
            Self::NoRoot => "no_root",
            Self::Form(_) => "form_invalid",
            Self::Store(_) => "internal",
        }
    }
}

fn listed(places: &[String]) -> String {
    match places {
        [] => "content is held here only".to_owned(),
        places => format!("there are {}", places.join(", ")),
    }
}
