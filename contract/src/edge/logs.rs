//! What functions log at edges of their own, on its way to the control plane.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::logs::SentLine;

/// Bytes of a batch's lines as JSON.
pub const LOGS_BYTES: usize = 256 << 10;

/// Lines of a batch.
pub const LOGS_LINES: usize = 1_000;

/// Between two batches of an edge.
pub const LOGS_PAUSE: Duration = Duration::from_secs(1);

/// Lines, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Logs {
    /// Of this batch: where its answer is lost it is sent again, and taken once.
    pub batch: String,
    /// Oldest first, at most [`LOGS_LINES`].
    pub lines: Vec<SentLine>,
}
