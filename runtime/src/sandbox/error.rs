//! Why a guest gave no, or only half a response.

use std::sync::Arc;

use wasmtime::component::ResourceTableError;
use wasmtime_wasi_http::{FieldMapError, p2, p3};

use super::{Exceeded, Meter};

type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why a guest gave no, or only half a response. Cheap to clone, since all that share an instance get it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GuestError {
    /// It broke a limit.
    #[error("{0}")]
    Exceeded(Exceeded),
    /// It trapped: out of bounds, unreachable, stack overflow.
    #[error("the function crashed")]
    Trap(#[source] Cause),
    /// It returned without having set a response.
    #[error("the function ended without sending a response")]
    NoResponse,
    /// It set an error as its response.
    #[error("the function answered with an error: {0}")]
    Http(String),
    /// It declared another length than it sent.
    #[error("the function declared a Content-Length of {declared} and sent {sent} bytes")]
    Length {
        /// Its header's value.
        declared: u64,
        /// The body's length, bytes.
        sent: u64,
    },
    /// It could not be instantiated: its start function trapped, or it needs more than the pool has.
    #[error("the function could not be started")]
    Instantiate(#[source] Cause),
    /// All slots of the pool are taken.
    #[error("the server has no free instance; try again in a moment")]
    PoolFull,
}

impl GuestError {
    /// Why a guest that ran came to an end.
    pub(super) fn blame(meter: &Meter, error: &wasmtime::Error) -> Self {
        match meter.blame().or_else(|| host_limit(error)) {
            Some(limit) => Self::Exceeded(limit),
            None => http_error(error).unwrap_or_else(|| Self::Trap(kept(error))),
        }
    }

    /// Whether the guest has done something wrong. To be too slow may be the fault of whoever it waited for or of
    /// a busy machine, where to call it less would make it slower still; too large a body is its client's.
    pub(super) fn is_its_own(&self) -> bool {
        let not_its_own = matches!(
            self,
            Self::PoolFull
                | Self::Exceeded(
                    Exceeded::Wall
                        | Exceeded::RequestBody
                        | Exceeded::RequestSlow
                        | Exceeded::RequestMalformed
                )
        );
        !not_its_own
    }

    /// What a guest gave instead of a response, while it has not failed.
    pub(super) fn answered(meter: &Meter, error: &wasmtime::Error) -> Self {
        match meter.exceeded() {
            Some(limit) => Self::Exceeded(limit),
            None => http_error(error).unwrap_or(Self::NoResponse),
        }
    }
}

/// A limit that Wasmtime's own host functions keep. Two of their errors have no type to tell them by.
fn host_limit(error: &wasmtime::Error) -> Option<Exceeded> {
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return Some(Exceeded::Handles);
    }
    if let Some(FieldMapError::TotalSizeTooBig | FieldMapError::TooManyFields) = error.downcast_ref() {
        return Some(Exceeded::Fields);
    }
    let text = error.root_cause().to_string();
    if text.starts_with("requested len ") {
        return Some(Exceeded::Random);
    }
    text.contains("fuel allocated for hostcalls has been exhausted").then_some(Exceeded::Hostcall)
}

/// A `wasi:http/types.error-code` that the guest chose as its answer.
fn http_error(error: &wasmtime::Error) -> Option<GuestError> {
    let p2 = error.downcast_ref::<p2::bindings::http::types::ErrorCode>().map(|code| format!("{code:?}"));
    let p3 = || error.downcast_ref::<p3::bindings::http::types::ErrorCode>().map(|code| format!("{code:?}"));
    p2.or_else(p3).map(GuestError::Http)
}

/// The error's chain as a value; a `wasmtime::Error` itself is none.
pub(super) fn kept(error: &wasmtime::Error) -> Cause {
    Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(format!("{error:#}")))
}
