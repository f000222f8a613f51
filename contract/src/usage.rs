//! What functions and sites use, on its way from an edge, which counts it, to the control plane, which adds it up. Each request is in
//! one batch, and each batch counts once, however often it is sent.

use serde::{Deserialize, Serialize};

/// An hour, milliseconds: what is used is counted by hours of UTC.
pub const HOUR: i64 = 3_600_000;

/// Characters of an id, which are ASCII.
const ID: usize = 64;

/// Of anything, in one hour at one edge: so much is counted by no honest one, and sums of it fit for as long as there are batches.
const MOST: u64 = 1 << 46;

/// What something used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Requests that it answered or failed to answer. What is refused before it is asked, such as for a rate, is none.
    pub requests: u64,
    /// Of these, those that ended with its failure: a crash, a limit, or an answer of its own with a status of 500 or more.
    pub errors: u64,
    /// CPU time of its code, microseconds.
    pub cpu_us: u64,
    /// For so long its code was at work for requests, waiting included, microseconds.
    pub wall_us: u64,
    /// Bytes of bodies that went to its clients, as they were sent.
    pub sent_bytes: u64,
}

/// What a function or a site used within an hour, at one edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageRecord {
    /// `fn_…` or `site_…`
    pub subject: String,
    /// When the hour began, milliseconds since 1970 UTC, by the edge's clock.
    pub hour: i64,
    /// What was used.
    #[serde(flatten)]
    pub usage: Usage,
}

impl Usage {
    /// Whether nothing was used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what was used besides.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.cpu_us = self.cpu_us.saturating_add(other.cpu_us);
        self.wall_us = self.wall_us.saturating_add(other.wall_us);
        self.sent_bytes = self.sent_bytes.saturating_add(other.sent_bytes);
    }
}

impl UsageRecord {
    /// Whether it is in the form that is agreed, and no more than anything can use.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let Usage { requests, errors, cpu_us, wall_us, sent_bytes } = self.usage;
        let is_id = self.subject.len() <= ID
            && self.subject.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_id
            && self.hour >= 0
            && self.hour % HOUR == 0
            && [requests, errors, cpu_us, wall_us, sent_bytes].into_iter().all(|count| count <= MOST)
    }
}

/// The hour that a moment is in, both milliseconds since 1970 UTC.
#[must_use]
pub const fn hour_of(at: i64) -> i64 {
    at - at.rem_euclid(HOUR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> UsageRecord {
        let usage = Usage { requests: 3, errors: 1, cpu_us: 900, wall_us: 12_000, sent_bytes: 64 };
        UsageRecord { subject: "fn_1".into(), hour: 480_000 * HOUR, usage }
    }

    #[test]
    fn a_record_is_as_it_is_agreed_or_none() {
        let text = r#"{"subject":"fn_1","hour":1728000000000,"requests":3,"errors":1,"cpuUs":900,"wallUs":12000,"sentBytes":64}"#;
        assert_eq!(serde_json::to_string(&record()).unwrap(), text);
        assert_eq!(serde_json::from_str::<UsageRecord>(text).unwrap(), record());
        assert!(record().is_valid());
        for invalid in [
            UsageRecord { subject: "fn_1\0".into(), ..record() },
            UsageRecord { subject: "f".repeat(ID + 1), ..record() },
            UsageRecord { hour: 1, ..record() },
            UsageRecord { hour: -HOUR, ..record() },
            UsageRecord { usage: Usage { sent_bytes: MOST + 1, ..record().usage }, ..record() },
        ] {
            assert!(!invalid.is_valid(), "{invalid:?}");
        }
    }

    #[test]
    fn what_is_used_adds_up_and_has_its_hour() {
        let mut sum = Usage::default();
        assert!(sum.is_empty());
        sum.add(&record().usage);
        sum.add(&Usage { requests: u64::MAX, cpu_us: 100, ..Usage::default() });
        assert_eq!((sum.requests, sum.errors, sum.cpu_us), (u64::MAX, 1, 1_000));
        assert_eq!(hour_of(HOUR * 5 + 1), HOUR * 5);
        assert_eq!(hour_of(HOUR * 5), HOUR * 5);
        assert_eq!(hour_of(HOUR * 6 - 1), HOUR * 5);
    }
}
