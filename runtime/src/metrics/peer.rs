//! What this node does as an IPFS peer, which it counts itself, and the names of that.

use std::fmt;
use std::sync::{Arc, OnceLock};

use af_content::bitswap::{Counters, Stats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The peer, where this node is one.
#[derive(Clone, Debug, Default)]
pub struct Peer(pub Arc<OnceLock<Arc<Counters>>>);

/// One count since the start.
type Count = (&'static str, &'static str, fn(&Stats) -> u64);

const COUNTS: [Count; 7] = [
    ("bitswap_blocks_wanted", "Blocks that IPFS peers were asked for", |stats| stats.blocks_wanted),
    ("bitswap_blocks_received", "Blocks that IPFS peers sent and somebody waited for", |stats| {
        stats.blocks_received
    }),
    ("bitswap_received_bytes", "Bytes of those blocks", |stats| stats.bytes_received),
    ("bitswap_blocks_sent", "Blocks that IPFS peers were sent", |stats| stats.blocks_sent),
    ("bitswap_sent_bytes", "Bytes of those blocks", |stats| stats.bytes_sent),
    ("bitswap_blocks_duplicate", "Blocks that came when they were not needed any more", |stats| {
        stats.blocks_late
    }),
    ("bitswap_blocks_bad", "Blocks that nobody asked for, or that were not what was asked for", |stats| {
        stats.blocks_unasked
    }),
];

impl Collector for Peer {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(counters) = self.0.get() else { return Ok(()) };
        let stats = counters.read();
        let peers = ConstGauge::new(i64::try_from(stats.peers).unwrap_or(i64::MAX));
        let help = "IPFS peers that are connected";
        peers.encode(encoder.encode_descriptor("bitswap_peers", help, None, peers.metric_type())?)?;
        for (name, help, count) in COUNTS {
            let counter = ConstCounter::new(count(&stats));
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn names_stay_and_only_a_peer_has_them() {
        let metrics = Metrics::default();
        assert!(!metrics.encode().unwrap().contains("bitswap"));
        metrics.watch_peer(Arc::default());
        let text = metrics.encode().unwrap();
        for name in [
            "af_bitswap_peers",
            "af_bitswap_blocks_wanted_total",
            "af_bitswap_blocks_received_total",
            "af_bitswap_received_bytes_total",
            "af_bitswap_blocks_sent_total",
            "af_bitswap_sent_bytes_total",
            "af_bitswap_blocks_duplicate_total",
            "af_bitswap_blocks_bad_total",
        ] {
            assert!(text.lines().any(|line| line == format!("{name} 0")), "{name} in {text}");
        }
    }
}
