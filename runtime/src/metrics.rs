//! What an edge counts, and every metric's name. No label is a tenant's to choose.

#[cfg(feature = "bitswap")]
mod peer;
mod rates;
mod usage;

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[cfg(feature = "bitswap")]
use af_content::bitswap::Counters;
use af_content::source::{Fetcher, SourceReport};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The counters of one edge.
pub struct Metrics {
    registry: Registry,
    requests: Family<Code, Counter>,
    answered: Counter,
    limits: Family<Code, Counter>,
    guest_cpu: Counter<f64, AtomicU64>,
    running: Gauge,
    made: Counter,
    rewound: Counter,
    compiled: Family<Code, Counter>,
    loaded: Counter,
    connections_refused: Counter,
    log_lines_dropped: Counter,
    function_lines_lost: Counter,
    upstream_requests: Family<Code, Counter>,
    upstream_answered: Counter,
    upstream_broken: Counter,
    upstream_retries: Counter,
    upstream_connections: Gauge,
    upstream_tunnels: Gauge,
    certificates: Family<Code, Counter>,
    handshakes_failed: Counter,
    feed: FeedGauges,
    sources: Sources,
    #[cfg(feature = "bitswap")]
    peer: peer::Peer,
    rates: rates::Rates,
    usage: usage::Usage,
}

/// How far an edge that is a process of its own knows the feed.
#[derive(Default)]
struct FeedGauges {
    revision: Gauge,
    contact: Gauge,
    failures: Counter,
    skipped: Counter,
    reports_dropped: Counter,
}

/// Sources of content, which count for themselves.
#[derive(Clone, Debug, Default)]
struct Sources(Arc<OnceLock<Fetcher>>);

/// A source, as the operator named it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceName {
    source: String,
}

/// A stable code, as problem documents have it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: &'static str,
}

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Of a request that a function answered.
const ANSWERED: &str = "answered";

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("af"),
            requests: Family::default(),
            answered: Counter::default(),
            limits: Family::default(),
            guest_cpu: Counter::default(),
            running: Gauge::default(),
            made: Counter::default(),
            rewound: Counter::default(),
            compiled: Family::default(),
            loaded: Counter::default(),
            connections_refused: Counter::default(),
            log_lines_dropped: Counter::default(),
            function_lines_lost: Counter::default(),
            upstream_requests: Family::default(),
            upstream_answered: Counter::default(),
            upstream_broken: Counter::default(),
            upstream_retries: Counter::default(),
            upstream_connections: Gauge::default(),
            upstream_tunnels: Gauge::default(),
            certificates: Family::default(),
            handshakes_failed: Counter::default(),
            feed: FeedGauges::default(),
            sources: Sources::default(),
            #[cfg(feature = "bitswap")]
            peer: peer::Peer::default(),
            rates: rates::Rates::default(),
            usage: usage::Usage::default(),
        };
        // The one that is counted for each good request is not looked up each time.
        metrics.answered = metrics.requests.get_or_create_owned(&Code { code: ANSWERED });
        metrics.upstream_answered = metrics.upstream_requests.get_or_create_owned(&Code { code: ANSWERED });
        metrics.register();
        metrics.register_upstream();
        metrics.register_feed();
        metrics.usage.register(&mut metrics.registry);
        metrics.registry.register_collector(Box::new(metrics.sources.clone()));
        #[cfg(feature = "bitswap")]
        metrics.registry.register_collector(Box::new(metrics.peer.clone()));
        metrics.registry.register_collector(Box::new(metrics.rates.clone()));
        metrics
    }
}

impl Metrics {
    /// The control plane has answered: everything up to `revision` is known.
    pub fn feed_known(&self, revision: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.feed.contact.set(i64::try_from(now).unwrap_or(i64::MAX));
        self.feed.revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
    }

    /// The control plane has not answered, or not as it should.
    pub fn feed_failed(&self) {
        self.feed.failures.inc();
    }

    /// A change of a kind that this version does not know was skipped.
    pub fn feed_skipped(&self) {
        self.feed.skipped.inc();
    }

    /// A report that the control plane does not take was dropped.
    pub fn report_dropped(&self) {
        self.feed.reports_dropped.inc();
    }

    fn register_feed(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "feed_revision",
            "The newest revision of the feed that is known",
            self.feed.revision.clone(),
        );
        registry.register_with_unit(
            "feed_contact",
            "When the control plane answered last, since 1970 UTC; 0: not since the start",
            Unit::Seconds,
            self.feed.contact.clone(),
        );
        registry.register(
            "feed_failures",
            "Times that the control plane did not answer as it should",
            self.feed.failures.clone(),
        );
        registry.register(
            "feed_changes_skipped",
            "Changes of kinds that a newer control plane tells of and this version does not know",
            self.feed.skipped.clone(),
        );
        registry.register(
            "reports_dropped",
            "Reports that the control plane does not take",
            self.feed.reports_dropped.clone(),
        );
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "requests",
            "Requests, by what became of them: answered by the function, or the code of the problem",
            self.requests.clone(),
        );
        registry.register("limits", "Limits that functions ran into, by code", self.limits.clone());
        registry.register_with_unit(
            "guest_cpu",
            "CPU time that functions used",
            Unit::Seconds,
            self.guest_cpu.clone(),
        );
        registry.register("instances_running", "Requests that have an instance", self.running.clone());
        registry.register("instances_made", "Instances made anew", self.made.clone());
        registry.register(
            "instances_rewound",
            "Instances set back to how they were when they were new, instead of making another",
            self.rewound.clone(),
        );
        registry.register(
            "components_compiled",
            "Components compiled, by result: compiled, or the code of the problem",
            self.compiled.clone(),
        );
        registry.register(
            "artifacts_loaded",
            "Times that compiled code was loaded from the disk",
            self.loaded.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections that were closed at once because their client had too many",
            self.connections_refused.clone(),
        );
        registry.register(
            "access_log_lines_dropped",
            "Lines of the access log that could not be written in time",
            self.log_lines_dropped.clone(),
        );
        registry.register(
            "function_log_lines_lost",
            "Lines of functions that did not reach the control plane: too many, or refused",
            self.function_lines_lost.clone(),
        );
        registry.register(
            "certificates_ordered",
            "Certificates ordered from the authority, by result: issued or failed",
            self.certificates.clone(),
        );
        registry.register(
            "handshakes_failed",
            "Encrypted connections that did not come about",
            self.handshakes_failed.clone(),
        );
    }

    fn register_upstream(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("upstream");
        registry.register(
            "requests",
            "Requests that were passed on, by what became of them: answered by a backend, or the code of the problem",
            self.upstream_requests.clone(),
        );
        registry.register(
            "responses_broken",
            "Responses of backends that broke off after their header was passed on",
            self.upstream_broken.clone(),
        );
        registry.register(
            "retries",
            "Times that a request was sent again, or to another backend",
            self.upstream_retries.clone(),
        );
        registry.register("connections", "Open connections to backends", self.upstream_connections.clone());
        registry.register("tunnels", "Open upgraded connections (WebSocket)", self.upstream_tunnels.clone());
    }

    /// A function answered a request.
    pub fn answered(&self) {
        self.answered.inc();
    }

    /// A request got a problem document.
    pub fn refused(&self, code: &'static str) {
        self.requests.get_or_create(&Code { code }).inc();
    }

    /// A function ran into a limit.
    pub fn limit(&self, code: &'static str) {
        self.limits.get_or_create(&Code { code }).inc();
    }

    /// An instance began to work for a request, after so many that work already.
    pub fn started(&self) {
        self.running.inc();
    }

    /// It has ended, and has used so much.
    pub fn ended(&self, cpu: Duration) {
        self.running.dec();
        self.guest_cpu.inc_by(cpu.as_secs_f64());
    }

    /// An instance was made.
    pub fn made(&self) {
        self.made.inc();
    }

    /// An instance was set back.
    pub fn rewound(&self) {
        self.rewound.inc();
    }

    /// A component was compiled, or could not be.
    pub fn compiled(&self, result: &'static str) {
        self.compiled.get_or_create(&Code { code: result }).inc();
    }

    /// Compiled code came from the disk.
    pub fn loaded(&self) {
        self.loaded.inc();
    }

    /// A client had too many connections.
    pub fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// A line of the access log was not written.
    pub fn log_line_dropped(&self) {
        self.log_lines_dropped.inc();
    }

    /// The control plane will not have so many lines that functions logged.
    pub fn function_lines_lost(&self, lines: u64) {
        self.function_lines_lost.inc_by(lines);
    }

    /// A backend answered a request.
    pub fn upstream_answered(&self) {
        self.upstream_answered.inc();
    }

    /// A request that was to be passed on got a problem document.
    pub fn upstream_refused(&self, code: &'static str) {
        self.upstream_requests.get_or_create(&Code { code }).inc();
    }

    /// A backend's response broke off after it was answered with.
    pub fn upstream_broke(&self) {
        self.upstream_broken.inc();
    }

    /// A request is sent again.
    pub fn upstream_retried(&self) {
        self.upstream_retries.inc();
    }

    /// A connection to a backend is open.
    pub fn upstream_opened(&self) {
        self.upstream_connections.inc();
    }

    /// It is closed.
    pub fn upstream_closed(&self) {
        self.upstream_connections.dec();
    }

    /// A connection speaks another protocol now.
    pub fn tunnel_opened(&self) {
        self.upstream_tunnels.inc();
    }

    /// It has ended.
    pub fn tunnel_closed(&self) {
        self.upstream_tunnels.dec();
    }

    /// A certificate was ordered, or could not be had.
    pub fn certificate(&self, result: &'static str) {
        self.certificates.get_or_create(&Code { code: result }).inc();
    }

    /// A TLS handshake failed.
    pub fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }

    /// Tells also what these sources have done.
    pub fn watch(&self, sources: Fetcher) {
        // An edge has one fetcher from its start to its end.
        let _first = self.sources.0.set(sources);
    }

    /// Tells also what this node does as an IPFS peer.
    #[cfg(feature = "bitswap")]
    pub fn watch_peer(&self, counters: Arc<Counters>) {
        // It is one peer from its start to its end.
        let _first = self.peer.0.set(counters);
    }

    /// Tells also how often the control API of this process counted rates alone that it shares with others.
    pub fn watch_rates(&self, alone: Arc<AtomicU64>) {
        // It is one control API from its start to its end.
        let _first = self.rates.0.set(alone);
    }

    /// All of them, as [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// When a metric cannot be written, which would be a fault of ours.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// One count of a source.
type Count = (&'static str, &'static str, fn(&SourceReport) -> u64);

const SOURCE_COUNTS: [Count; 4] = [
    ("source_blocks", "Blocks that a source gave, each what its CID says", |report| report.blocks),
    ("source_bytes", "Bytes of blocks that a source gave", |report| report.bytes),
    ("source_failures", "Times that a source could not be asked, or answered something else", |report| {
        report.failures
    }),
    ("source_lies", "Times that a source sent what is not what the CID says", |report| report.lies),
];

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let reports = self.0.get().map(Fetcher::reports).unwrap_or_default();
        for (name, help, count) in SOURCE_COUNTS.iter().filter(|_| !reports.is_empty()) {
            let counters = reports
                .iter()
                .map(|report| (SourceName { source: report.name.clone() }, ConstCounter::new(count(report))));
            let counter = ConstCounter::new(0_u64);
            let mut family = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            for (labels, counter) in counters {
                counter.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_units_stay() {
        let metrics = Metrics::default();
        metrics.answered();
        metrics.refused("function_crashed");
        metrics.limit("cpu_limit_exceeded");
        metrics.started();
        metrics.ended(Duration::from_millis(1500));
        metrics.made();
        metrics.rewound();
        metrics.compiled("compiled");
        metrics.loaded();
        metrics.connection_refused();
        metrics.log_line_dropped();
        metrics.function_lines_lost(2);
        metrics.upstream_answered();
        metrics.upstream_refused("upstream_timeout");
        metrics.upstream_broke();
        metrics.upstream_retried();
        metrics.upstream_opened();
        metrics.tunnel_opened();
        metrics.tunnel_closed();
        metrics.certificate("issued");
        metrics.handshake_failed();
        let text = metrics.encode().unwrap();
        for line in [
            "af_requests_total{code=\"answered\"} 1",
            "af_requests_total{code=\"function_crashed\"} 1",
            "af_limits_total{code=\"cpu_limit_exceeded\"} 1",
            "af_guest_cpu_seconds_total 1.5",
            "af_instances_running 0",
            "af_instances_made_total 1",
            "af_instances_rewound_total 1",
            "af_components_compiled_total{code=\"compiled\"} 1",
            "af_artifacts_loaded_total 1",
            "af_connections_refused_total 1",
            "af_access_log_lines_dropped_total 1",
            "af_function_log_lines_lost_total 2",
            "af_upstream_requests_total{code=\"answered\"} 1",
            "af_upstream_requests_total{code=\"upstream_timeout\"} 1",
            "af_upstream_responses_broken_total 1",
            "af_upstream_retries_total 1",
            "af_upstream_connections 1",
            "af_upstream_tunnels 0",
            "af_certificates_ordered_total{code=\"issued\"} 1",
            "af_handshakes_failed_total 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
