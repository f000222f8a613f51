//! How often rates were not shared though they should be, which the control API of this process counts.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

/// The count, where rates are shared.
#[derive(Clone, Debug, Default)]
pub struct Rates(pub Arc<OnceLock<Arc<AtomicU64>>>);

impl Collector for Rates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(alone) = self.0.get() else { return Ok(()) };
        let counter = ConstCounter::new(alone.load(Ordering::Relaxed));
        let help = "Times that the control API counted a rate alone because Redis did not answer";
        let metric = counter.metric_type();
        counter.encode(encoder.encode_descriptor("control_rates_alone", help, None, metric)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn only_who_shares_rates_tells_that_it_does_not() {
        let metrics = Metrics::default();
        assert!(!metrics.encode().unwrap().contains("control_rates_alone"));
        metrics.watch_rates(Arc::new(AtomicU64::new(7)));
        assert!(metrics.encode().unwrap().contains("control_rates_alone_total 7"));
    }
}
