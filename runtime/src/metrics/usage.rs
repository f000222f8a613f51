//! How what functions use gets to the control plane.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;

/// Its counters.
#[derive(Default)]
pub(super) struct Usage {
    waiting: Gauge,
    lost: Counter,
}

impl Usage {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "usage_waiting",
            "Records of what functions and sites used, one for each and each hour, that the control plane has not taken yet",
            self.waiting.clone(),
        );
        registry.register(
            "usage_lost",
            "Such records that the control plane refused for good",
            self.lost.clone(),
        );
    }
}

impl Metrics {
    /// So many records wait for the control plane.
    pub fn usage_waits(&self, records: usize) {
        self.usage.waiting.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// So many records count for nobody.
    pub fn usage_lost(&self, records: usize) {
        self.usage.lost.inc_by(records as u64);
    }
}
