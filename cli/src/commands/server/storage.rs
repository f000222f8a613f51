//! What the options of a server say about stored content.

use std::path::Path;
use std::sync::Arc;

use af_content::DiskStore;
use af_content::sink::{Kubo, Pinning, Sink, Token};
use af_control_api::StorageConfig;
use anyhow::{Context, bail};

use crate::args::storage::Stored;
use crate::config::Environment;

/// Reads the tokens, too, so that a missing one is told before anything starts.
pub fn config(
    options: &Stored,
    environment: &Environment,
    blocks: &DiskStore,
) -> anyhow::Result<StorageConfig> {
    let sinks = options.pin_to.iter().map(|place| sink(place, options, environment, blocks));
    let sinks = sinks.collect::<anyhow::Result<Vec<_>>>()?;
    for (at, sink) in sinks.iter().enumerate() {
        if sinks.iter().take(at).any(|other| other.name() == sink.name()) {
            bail!("--pin-to names {} twice", sink.name());
        }
    }
    Ok(StorageConfig {
        bytes_per_project: options.storage_limit_mb << 20,
        pins_per_project: options.pin_limit,
        grace: options.gc_grace.into(),
        sweep_interval: options.gc_interval.into(),
        sinks,
    })
}

fn sink(
    place: &str,
    options: &Stored,
    environment: &Environment,
    blocks: &DiskStore,
) -> anyhow::Result<Arc<dyn Sink>> {
    let invalid = "--pin-to takes kubo=URL or pinning=URL, with ,token=FILE after it where a token is needed";
    let (kind, rest) = place.split_once('=').context(invalid)?;
    let (url, token) = match rest.split_once(",token=") {
        Some((url, file)) => (url, Some(token(Path::new(file))?)),
        None => (rest, environment.pin_token.clone()),
    };
    match kind {
        "kubo" => Ok(Arc::new(Kubo::new(url, token, blocks.clone())?)),
        "pinning" => Ok(Arc::new(Pinning::new(url, token, options.pin_origin.clone())?)),
        _ => bail!(invalid),
    }
}

fn token(path: &Path) -> anyhow::Result<Token> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read the token in {}", path.display()))?;
    match text.trim() {
        "" => bail!("there is no token in {}", path.display()),
        text => Ok(Token::new(text.to_owned())),
    }
}
