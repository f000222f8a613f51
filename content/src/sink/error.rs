//! Why a sink did not do what it was asked.

use std::time::Duration;

use crate::ans104::KeyError;
use crate::disk::FileReadError;

/// Why a sink did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// It cannot be reached, took too long, or the connection broke.
    #[error("it cannot be reached: {}", cause(.0))]
    Unreachable(#[source] reqwest::Error),
    /// It wants to be asked later.
    #[error("it is busy")]
    Busy(Option<Duration>),
    /// It says no.
    #[error("it refused with status {status}: {reason}")]
    Refused {
        /// Of HTTP.
        status: u16,
        /// As it says.
        reason: String,
    },
    /// It answers something else than what was agreed.
    #[error("it answered {0}")]
    Unexpected(String),
    /// The blocks that it is to hold cannot be read here.
    #[error("the content cannot be read here: {0}")]
    Read(#[from] FileReadError),
    /// Nothing can be signed.
    #[error("the content cannot be signed: {0}")]
    Key(#[from] KeyError),
    /// This node stops.
    #[error("it was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
    /// Its address is none.
    #[error("{0:?} is not the URL of a place that holds content; one looks like http://127.0.0.1:5001")]
    Url(String),
}

/// What is at the end of the chain: the first parts say only that a request failed.
fn cause(error: &reqwest::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
