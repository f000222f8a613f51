//! From options to whoever is asked for content.

use std::sync::Arc;

use af_content::Hashed;
use af_content::source::{Arweave, Blocks, Gateway, Kubo, Routing, Source, SourceError, SourceReport};
use af_contract::ContentId;
use af_runtime::host::egress::{Egress, IpNet};
use anyhow::Context;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::args::content::{SourceKind, SourceUrl, Sources};
use crate::config::Environment;
use crate::output::counted;

/// Those of the options, in their order. Providers that a routing server names are asked only where functions may send requests,
/// too: at public addresses, and in the networks of `egress`.
pub fn all(
    sources: &Sources,
    egress: &[IpNet],
    environment: &Environment,
) -> anyhow::Result<Vec<Arc<dyn Source>>> {
    sources.sources.iter().map(|source| self::source(source, egress, environment)).collect()
}

fn source(
    source: &SourceUrl,
    egress: &[IpNet],
    environment: &Environment,
) -> anyhow::Result<Arc<dyn Source>> {
    let url = source.url.clone();
    let made: Result<Arc<dyn Source>, _> = match source.kind {
        SourceKind::Gateway => Gateway::new(url, None).map(|made| Arc::new(made) as _),
        SourceKind::Peer => {
            Gateway::new(url, environment.gateway_token.clone()).map(|made| Arc::new(Peer::new(made)) as _)
        }
        SourceKind::Kubo => Kubo::new(url).map(|made| Arc::new(made) as _),
        SourceKind::Arweave => Arweave::new(url, source.owner.clone()).map(|made| Arc::new(made) as _),
        SourceKind::Routing => {
            let egress = Egress::new(egress);
            let allowed = Arc::new(move |address| egress.permits(address));
            Routing::new(url, allowed).map(|made| Arc::new(made) as _)
        }
    };
    made.with_context(|| format!("the source {} cannot be used", source.url))
}

/// A gateway of this platform, called what its option calls it.
#[derive(Debug)]
struct Peer {
    name: String,
    gateway: Gateway,
}

impl Peer {
    fn new(gateway: Gateway) -> Self {
        let name = gateway.name();
        let name = format!("peer {}", name.strip_prefix("gateway ").unwrap_or(name));
        Self { name, gateway }
    }
}

impl Source for Peer {
    fn name(&self) -> &str {
        &self.name
    }

    fn block(&self, id: ContentId) -> BoxFuture<'_, Result<Hashed, SourceError>> {
        self.gateway.block(id)
    }

    fn expect(&self, root: ContentId) {
        self.gateway.expect(root);
    }

    fn done(&self, root: ContentId) {
        self.gateway.done(root);
    }

    fn dag(&self, root: ContentId) -> Option<Blocks<'_>> {
        self.gateway.dag(root)
    }
}

/// What each source did, and the peers behind it, for people and for programs.
pub fn reported(reports: &[SourceReport]) -> (Vec<(&str, String)>, Value) {
    let lines = reports.iter().flat_map(|report| std::iter::once(report).chain(&report.peers));
    let fields = lines.map(|report| (report.name.as_str(), text(report))).collect();
    let values: Vec<Value> = reports
        .iter()
        .map(|report| {
            let mut value = value(report);
            if let Some(object) = value.as_object_mut().filter(|_| !report.peers.is_empty()) {
                object.insert("peers".to_owned(), report.peers.iter().map(self::value).collect());
            }
            value
        })
        .collect();
    (fields, values.into())
}

/// Whoever was asked and is silent has to look different from whoever was never asked.
fn text(report: &SourceReport) -> String {
    let more = [(report.missing, "not there"), (report.failures, "failed"), (report.lies, "WRONG BYTES")];
    let asked = match report.asked {
        0 => "never asked".to_owned(),
        asked => format!("asked {}", counted(asked, "time")),
    };
    let mut said = Vec::new();
    if report.blocks > 0 {
        said.push(format!("{}, {}", counted(report.blocks, "block"), counted(report.bytes, "byte")));
    }
    said.extend(more.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    if said.is_empty() && report.asked > 0 {
        said.push("no answer".to_owned());
    }
    let last = report.said.as_deref().filter(|_| report.failures + report.lies > 0);
    let last = last.map(|last| format!(" (at last: {last})")).unwrap_or_default();
    let said = said.join(", ");
    if said.is_empty() { asked } else { format!("{asked}: {said}{last}") }
}

fn value(report: &SourceReport) -> Value {
    json!({
        "source": report.name, "asked": report.asked, "blocks": report.blocks, "bytes": report.bytes,
        "missing": report.missing, "failures": report.failures, "lies": report.lies, "said": report.said,
    })
}
