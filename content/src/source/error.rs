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
    /// It names only others who may not be asked.
    #[error("those who have it may not be asked: {0}; --egress-allow allows networks")]
    Barred(String),
    /// It wants to be asked later, and may say when.
    #[error("it is busy{}", later(.status, .after))]
    Busy {
        /// Of HTTP, where that is spoken.
        status: Option<u16>,
        /// In how long.
        after: Option<Duration>,
    },
    /// It cannot be reached.
    #[error("it cannot be reached: {}", cause(.0.as_ref()))]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It was reached, and the connection broke.
    #[error("the connection broke: {}", cause(.0.as_ref()))]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It was reached, and sent nothing for so long.
    #[error("it was reached, and then said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// It took too long.
    #[error("it took longer than {} ms", .0.as_millis())]
    Timeout(Duration),
    /// It says that something went wrong on its side.
    #[error("it answered {0}")]
    Failed(String),
    /// It was not asked, since it failed or lied before.
    #[error("it is not asked for another {} s; before, {reason}", .left.as_millis().div_ceil(1000))]
    LeftAlone {
        /// How much longer.
        left: Duration,
        /// The error before.
        reason: String,
    },
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
            | Self::Barred(_)
            | Self::Busy { .. }
            | Self::Unreachable(_)
            | Self::Broken(_)
            | Self::Silent(_)
            | Self::Timeout(_)
            | Self::Failed(_)
            | Self::LeftAlone { .. }
            | Self::Unexpected(_) => false,
        }
    }

    /// Whether the same request can have another end in a moment.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Busy { .. }
                | Self::Unreachable(_)
                | Self::Broken(_)
                | Self::Silent(_)
                | Self::Timeout(_)
                | Self::Failed(_)
        )
    }
}

fn later(status: &Option<u16>, after: &Option<Duration>) -> String {
    let status = status.map(|status| format!(" (status {status})")).unwrap_or_default();
    let after = after.map(|after| format!(", and wants to be asked again in {} s", after.as_secs()));
    status + &after.unwrap_or_default()
}

/// What is at the end of the chain: the first parts say only that a request failed.
fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last
}
