//! Why an operation was not done, and whose fault that is. [`crate::rest`] turns it into a status.

use super::storage_error::StorageError;
use super::upload::UploadError;
use crate::store::StoreError;

/// Whose fault an error is, and so what the client can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Sign in.
    Unauthenticated,
    /// This actor may see it, and not do this to it.
    Forbidden,
    /// Nothing by that name that this actor may see.
    NotFound,
    /// The request cannot be right: change it.
    Invalid,
    /// It is right, but not now: something else has the name, or the state does not allow it.
    Conflict,
    /// It is not what the client wants to change.
    Outdated,
    /// What was sent is understood and refused.
    Refused,
    /// What was sent is too large.
    TooLarge,
    /// Come less often.
    TooOften,
    /// Come again later.
    Busy,
    /// Ours.
    Internal,
}

/// An operation was not done, and nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No token, or one that is unknown or expired.
    #[error("sign in with a valid token: `af login`, or set AF_TOKEN")]
    Unauthenticated,
    /// Not there, or not for this actor; the two are not told apart.
    #[error("there is no {what} {id:?} that you can see")]
    NotFound {
        /// The noun.
        what: &'static str,
        /// As it was given.
        id: String,
    },
    /// An operation of the platform's operator, which others are told of as of what is not there.
    #[error("{what} are for the platform's operator alone, the user that its first start made; ask them")]
    OperatorOnly {
        /// What is operated on, in the plural.
        what: &'static str,
    },
    /// The role or the token does not allow it.
    #[error("{detail}")]
    Forbidden {
        /// Stable.
        code: &'static str,
        /// What to do.
        detail: String,
    },
    /// A value that cannot be used.
    #[error("{detail}")]
    Invalid {
        /// Stable.
        code: &'static str,
        /// What to do.
        detail: String,
    },
    /// Something is in the way.
    #[error("{detail}")]
    Conflict {
        /// Stable.
        code: &'static str,
        /// What to do.
        detail: String,
    },
    /// The thing is not what the client has seen.
    #[error("it was changed since you read it; read it again, and send its ETag as If-Match")]
    Outdated,
    /// Something else was asked with this key.
    #[error("this Idempotency-Key was used for another request; use another one for this")]
    Reused,
    /// The uploaded code is refused.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// Content is not kept.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A token, user or address asked too often.
    #[error("this {whose} is used too often; try again in {retry_after} s")]
    RateLimited {
        /// Which of them.
        whose: &'static str,
        /// Seconds, at least one.
        retry_after: u64,
    },
    /// Too many at once.
    #[error("too many uploads at once; try again in a moment")]
    Busy,
    /// More often than one may.
    #[error("this was asked for too often; try again in {seconds} s")]
    TooOften {
        /// Until it works again.
        seconds: u64,
    },
    /// More than one may in a time.
    #[error("{detail}")]
    Limit {
        /// Stable.
        code: &'static str,
        /// What to do.
        detail: String,
        /// Until it works again.
        seconds: u64,
    },
    /// The database.
    #[error("the database failed")]
    Store(#[source] StoreError),
    /// The block store.
    #[error("the block store failed")]
    Blocks(#[from] af_content::StoreError),
    /// A deployment's own blocks.
    #[error("the blocks of a deployment cannot be read: {0}")]
    Content(#[from] af_content::FileReadError),
    /// Anything else that must not happen.
    #[error("an operation was interrupted")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn invalid(code: &'static str, detail: impl ToString) -> Self {
        Self::Invalid { code, detail: detail.to_string() }
    }

    pub(crate) fn forbidden(code: &'static str, detail: impl ToString) -> Self {
        Self::Forbidden { code, detail: detail.to_string() }
    }

    pub(crate) fn conflict(code: &'static str, detail: impl ToString) -> Self {
        Self::Conflict { code, detail: detail.to_string() }
    }

    pub(crate) fn not_found(what: &'static str, id: &str) -> Self {
        Self::NotFound { what, id: id.chars().take(100).collect() }
    }

    /// Seconds after which it works, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy => Some(1),
            Self::RateLimited { retry_after, .. } => Some(*retry_after),
            Self::TooOften { seconds } | Self::Limit { seconds, .. } => Some(*seconds),
            _ => None,
        }
    }

    /// Whether the same would end the same: it is refused for what it says, and not because something is away or busy.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Store(error) => error.is_refusal(),
            error => matches!(
                error.fault(),
                Fault::Invalid | Fault::NotFound | Fault::Conflict | Fault::Refused | Fault::TooLarge
            ),
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unauthenticated => Fault::Unauthenticated,
            Self::Forbidden { .. } => Fault::Forbidden,
            Self::NotFound { .. } | Self::OperatorOnly { .. } => Fault::NotFound,
            Self::Invalid { .. } => Fault::Invalid,
            Self::Conflict { .. } => Fault::Conflict,
            Self::Outdated => Fault::Outdated,
            Self::Reused => Fault::Refused,
            Self::Upload(error) => error.fault(),
            Self::Storage(error) => error.fault(),
            Self::RateLimited { .. } => Fault::TooOften,
            Self::Busy => Fault::Busy,
            Self::TooOften { .. } | Self::Limit { .. } => Fault::TooOften,
            Self::Store(_) | Self::Blocks(_) | Self::Content(_) | Self::Internal(_) => Fault::Internal,
        }
    }

    /// The stable code of the problem document.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::NotFound { .. } | Self::OperatorOnly { .. } => "not_found",
            Self::Forbidden { code, .. }
            | Self::Invalid { code, .. }
            | Self::Conflict { code, .. }
            | Self::Limit { code, .. } => code,
            Self::Outdated => "precondition_failed",
            Self::Reused => "idempotency_key_reused",
            Self::Upload(error) => error.code(),
            Self::Storage(error) => error.code(),
            Self::RateLimited { .. } => "rate_limit_exceeded",
            Self::Busy => "busy",
            Self::TooOften { .. } => "too_many_requests",
            Self::Store(_) | Self::Blocks(_) | Self::Content(_) | Self::Internal(_) => "internal",
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Taken("slug") => Self::Conflict {
                code: "slug_taken",
                detail: "another function or site has this slug; choose another one".into(),
            },
            StoreError::Taken(what) => Self::Conflict {
                code: "name_taken",
                detail: format!("this {what} is taken; choose another one"),
            },
            error if error.is_no_text() => Self::Invalid {
                code: "invalid_request",
                detail: "a text has a NUL character; leave it out".into(),
            },
            error => Self::Store(error),
        }
    }
}
