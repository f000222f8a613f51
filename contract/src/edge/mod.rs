//! How an edge and the control plane speak: who an edge is, and what it is told.
//!
//! An edge proves itself by its own Ed25519 key (`proof`). Each page of the feed, and what it is to do, is sealed to a key that it
//! made for that one request, and signed with the control plane's feed key (`envelope`), which the edge has known since it joined
//! (`join`); what it asks for and reports is bound to its proof. So nobody between them reads what it is told, or changes either. A proof
//! counts for one method, path, query and body, and for a few minutes; one of a report, of lines, of usage, or of a request for work, counts once at a
//! server, which remembers it until it has expired or the server ends. Content is not sealed, as it is checked by its CID, nor is what edges report and
//! what functions log and use there: who sees the proof of a request for it can ask
//! for the same again, so reach the control plane over TLS.

mod envelope;
mod join;
mod key;
mod logs;
mod page;
mod proof;
mod report;
mod usage;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::envelope::{Share, seal};
pub use self::join::{JoinAnswer, JoinRequest, JoinToken};
pub use self::key::{KeyPair, PUBLIC_BYTES, PublicKey};
pub use self::logs::{LOGS_BYTES, LOGS_LINES, LOGS_PAUSE, Logs};
pub use self::page::{FeedPage, PageError};
pub use self::proof::{Bound, PROOF_SECONDS, Proof, Shown, VERSION, prove};
pub use self::report::{
    Awaited, Call, CallEnd, DeploymentReport, REASON, REPORTED, Report, Work, WorkRequest,
};
pub use self::usage::{USAGE_BYTES, USAGE_PAUSE, USAGE_RECORDS, UsageBatch, UsageTaken};

/// An edge that gets nothing of an answer for so long asks anew; the control plane answers before that, if only that there is nothing.
pub const SILENCE: Duration = Duration::from_secs(70);

/// An edge that was not answered asks again after so long at most.
pub const PAUSE: Duration = Duration::from_secs(10);

/// What an edge asks for, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FeedRequest {
    /// Of the last page; none: it knows nothing yet.
    #[serde(default)]
    pub epoch: Option<String>,
    /// It knows everything up to this revision.
    #[serde(default)]
    pub after: u64,
    /// It is being told all anew, and was told this much of it: what was forgotten before it began is nothing that it knows.
    #[serde(default)]
    pub anew: bool,
    /// For so long it waits where there is nothing new, milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Why something of the other side does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// Not in the form that is agreed.
    #[error("it is not in the form that edges and control planes use")]
    Form,
    /// Signed by somebody else, or changed on the way.
    #[error("it is signed by another key, or was changed on the way")]
    Signature,
    /// For another control plane.
    #[error("it is for another control plane")]
    Audience,
    /// Too old, or from the future.
    #[error("it is too old, or the clocks of both sides differ by more than a minute")]
    Time,
    /// The body is another one than the proof was made for.
    #[error("its body is another one than the proof was made for")]
    Body,
    /// The request has another method, path or query than the proof was made for.
    #[error(
        "its method, path or query is another one than the proof was made for: it was changed on the way, or the edge is of an older version; upgrade it, and use TLS"
    )]
    Request,
    /// The system has no randomness.
    #[error("the system has no randomness")]
    Random,
}

#[cfg(test)]
mod tests;
