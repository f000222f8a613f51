//! One role of a cluster: the control plane, or an edge.

use std::sync::Arc;

use af_content::source::{Gateway, Source};
use af_contract::edge::{self, JoinToken};
use af_control_api::ControlApi;
use af_runtime::Edge;
use af_runtime::feed::{Feed, FeedConfig, Identity};
use anyhow::{Context, bail};
use tracing::{error, info};

use super::content::Content;
use super::entries::Entries;
use super::listeners::{Bound, bind_api};
use super::running::Running;
use super::{Said, control_config, data_dir, edge_config, lock, sign_in, start_log, usage, wait_for_signal};
use crate::args::server::{Control, Edge as EdgeOptions};
use crate::config::Environment;
use crate::output::Output;

/// Runs a control plane until SIGTERM or SIGINT, then lets requests finish.
pub async fn control(options: Control, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let Control { functions_url, node, controlling } = &options;
    start_log(environment)?;
    let functions = match functions_url {
        Some(url) if url.contains("{slug}") => url.trim_end_matches('/').to_owned(),
        Some(url) => {
            bail!("--functions-url {url} has no {{slug}} in it; write it as https://{{slug}}.example.com")
        }
        None => format!("https://{{slug}}.{}", node.primary_domain()),
    };
    let data = data_dir(node, environment)?;
    let _lock = lock(&data)?;
    let (listener, api) = bind_api(controlling).await?;
    let content = Content::open(node, &data, &[], environment).await?;
    let config = control_config(node, controlling, &content, &data, &functions, environment).await?;
    let control = ControlApi::build(config, content.blocks.clone()).await?;
    let signed_in = sign_in(&control, controlling, environment, &api).await?;

    let mut running = Running::default();
    running.control(&control, listener, control.remote_callee());
    let said = Said {
        urls: None,
        api: Some(&api),
        peer: content.described(),
        data: &data,
        signed_in: Some(signed_in.as_deref()),
        edge: None,
    };
    said.announce(output);
    let ended = wait_for_signal(None, running.died()).await;
    info!("stopping; requests may finish");
    let stopped = running.stop().await;
    content.stop().await;
    ended.and(stopped)
}

/// Runs an edge until SIGTERM or SIGINT, then lets requests finish.
pub async fn edge(options: EdgeOptions, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let EdgeOptions { control, join, node, serving } = &options;
    start_log(environment)?;
    if !matches!(control.scheme(), "http" | "https") {
        bail!("--control {control} is no URL of a control plane; write it as https://control.example.com");
    }
    // Not where options are read: an error there would show it.
    let join = join.as_deref().map(str::parse::<JoinToken>).transpose();
    let join = join.context("the token to join is none: copy all of what `af edges add NAME` showed")?;
    let data = data_dir(node, environment)?;
    let _lock = lock(&data)?;
    let bound = Bound::bind(serving).await?;
    let urls = bound.urls(node, serving)?;
    let feed = FeedConfig { control: control.clone(), dir: data.clone(), join };
    let identity = Arc::new(Identity::load_or_join(&feed).await?);

    let platform: Arc<dyn Source> = Arc::new(platform(&feed, identity.clone())?);
    let content = Content::open(node, &data, &[platform], environment).await?;
    let mut config = edge_config(node, serving, &data, urls.https_port, environment)?;
    config.gateway = content.gateway.clone();
    let edge = Edge::build(&config, content.blocks.clone())?;
    content.watch(&edge);
    let feed = Feed::start(&feed, identity.clone(), &edge).await?;

    let usage = usage(&edge, &data)?;
    let mut running = Running::default();
    running.usage(usage, feed.usage_taker());
    running.remote_feed(feed, &edge);
    running.entries(Entries::bind(&data, edge.keyvalue()));
    running.edge(&edge, bound);
    let said = Said {
        urls: Some(&urls),
        api: None,
        peer: content.described(),
        data: &data,
        signed_in: None,
        edge: Some(identity.edge()),
    };
    said.announce(output);
    let ended = wait_for_signal(edge.tls().map(AsRef::as_ref), running.died()).await;
    info!("stopping; requests may finish");
    let stopped = running.stop().await;
    content.stop().await;
    ended.and(stopped)
}

/// The control plane as a source of content, which knows edges by their keys.
fn platform(config: &FeedConfig, identity: Arc<Identity>) -> anyhow::Result<Gateway> {
    let mut base = config.control.clone();
    base.set_path(&format!("{}/v1/edge", base.path().trim_end_matches('/')));
    let proof = move |asked: &str| match identity.prove(edge::Bound::to("GET", &format!("/v1/edge/{asked}")))
    {
        Ok(proof) => Some(proof),
        Err(cause) => {
            error!(%cause, "no proof for the control plane can be made");
            None
        }
    };
    Gateway::proven(base, proof).context("the control plane cannot be asked for content")
}
