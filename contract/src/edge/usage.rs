//! What functions and sites used at edges, on its way to the control plane.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::usage::UsageRecord;

/// Records of a batch.
pub const USAGE_RECORDS: usize = 1_000;

/// Bytes of a batch as JSON, at most: those of its records, and what is around them.
pub const USAGE_BYTES: usize = 320 << 10;

/// Between two batches of an edge, unless the control plane wants a longer pause.
pub const USAGE_PAUSE: Duration = Duration::from_secs(10);

/// Records, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UsageBatch {
    /// Of whoever counts: made anew at each of its starts, 1 to 64 letters and digits.
    pub source: String,
    /// Of this batch, counting up with each of this source. One that is sent again is the same, and counts once; one that is not higher
    /// than the last that was taken has been taken.
    pub number: u64,
    /// At most [`USAGE_RECORDS`], each subject and hour once.
    pub records: Vec<UsageRecord>,
}

/// A batch was taken, as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageTaken {
    /// For so long the edge waits until it sends the next one, milliseconds: where there are many edges, longer than [`USAGE_PAUSE`].
    pub pause_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{HOUR, Usage};

    #[test]
    fn a_batch_fits_whatever_was_used() {
        let most = 1 << 46;
        let usage = Usage { requests: most, errors: most, cpu_us: most, wall_us: most, sent_bytes: most };
        let record = UsageRecord { subject: "f".repeat(64), hour: 999_999_999 * HOUR, usage };
        assert!(record.is_valid());
        let records = vec![record; USAGE_RECORDS];
        let batch = UsageBatch { source: "0".repeat(64), number: u64::MAX, records };
        assert!(serde_json::to_vec(&batch).unwrap().len() <= USAGE_BYTES);
    }
}
