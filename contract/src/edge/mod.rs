//! How an edge and the control plane speak: who an edge is, and what it is told.
//!
//! An edge proves itself by its own Ed25519 key (`proof`). Each page of the feed, and what it is to do, is sealed to a key that it
//! made for that one request, and signed with the control plane's feed key (`envelope`), which the edge has known since it joined
//! (`join`); what it reports is bound to its proof. So nobody between them reads what it is told, or changes either. Content is not
//! sealed, as it is checked by its CID, nor is what edges report and what functions log there; and a proof counts for a few minutes:
//! who sees one can ask for content with it. So reach the control plane over TLS.

mod envelope;
mod join;
mod key;
mod logs;
mod proof;
mod report;

use serde::{Deserialize, Serialize};

pub use self::envelope::{Share, seal};
pub use self::join::{JoinAnswer, JoinRequest, JoinToken};
pub use self::key::{KeyPair, PUBLIC_BYTES, PublicKey};
pub use self::logs::{LOGS_BYTES, LOGS_LINES, LOGS_PAUSE, Logs};
pub use self::proof::{Bound, PROOF_SECONDS, Proof, prove};
pub use self::report::{
    Awaited, Call, CallEnd, DeploymentReport, REASON, REPORTED, Report, Work, WorkRequest,
};

use crate::Update;

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
    /// For so long it waits where there is nothing new, milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
}

/// What it is told, as JSON within an envelope.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedPage {
    /// Which history the revisions are of. Another one: the control plane was restored from a backup.
    pub epoch: String,
    /// The page follows this revision; 0 where the edge asked for another one: what it knows is of no use, and all comes anew.
    pub after: u64,
    /// With the page, the edge knows everything up to this revision.
    pub until: u64,
    /// Whether there are further pages already.
    pub more: bool,
    /// What changed, oldest first.
    pub updates: Vec<Update>,
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
    /// The system has no randomness.
    #[error("the system has no randomness")]
    Random,
}

#[cfg(test)]
mod tests;
