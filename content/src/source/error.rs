//! Why a source gave no block.

use std::time::Duration;

use crate::car::CarError;
use crate::hash::Mismatch;

/// Why a source gave no block.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It has none, which is nobody's fault.
    #[error("it does not have the block")]
    NotFound,
    /// It wants to be asked later.
    #[error("it is busy")]
    Busy(Option<Duration>),
    /// It cannot be reached, or the connection broke.
    #[error("it cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("it took longer than {} ms", .0.as_millis())]
    Timeout(Duration),
    /// It answers something else.
    #[error("it answered {0}")]
    Unexpected(String),
    /// What it sent is larger than a block may be.
    #[error("it sent more than a block may have")]
    TooLarge,
    /// What it sent is not what the id says.
    #[error(transparent)]
    Lied(#[from] Mismatch),
    /// What it sent is no CAR of blocks that match their ids.
    #[error(transparent)]
    Car(#[from] CarError),
}

impl SourceError {
    /// Whether only a source that is broken or hostile sends such a thing.
    #[must_use]
    pub fn is_lie(&self) -> bool {
        match self {
            Self::Lied(_) | Self::TooLarge | Self::Car(_) => {
                !matches!(self, Self::Car(CarError::Truncated(_)))
            }
            Self::NotFound
            | Self::Busy(_)
            | Self::Unreachable(_)
            | Self::Timeout(_)
            | Self::Unexpected(_) => false,
        }
    }
}
