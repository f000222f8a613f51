//! `af edges …`

use anyhow::bail;
use reqwest::Method;
use serde_json::{Value, json};

use super::functions::utc;
use crate::args::edges::{AddEdge, Edges, RemoveEdge};
use crate::client::{Api, text};
use crate::config::Environment;
use crate::output::Output;

/// Runs one of the subcommands.
pub async fn run(command: Edges, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    match command {
        Edges::Add(options) => add(&api, &options, output).await,
        Edges::List => list(&api, output).await,
        Edges::Remove(options) => remove(&api, &options, output).await,
    }
}

async fn add(api: &Api, options: &AddEdge, output: &Output) -> anyhow::Result<()> {
    let edge = api.send(Method::POST, "/v1/edges", &json!({ "name": options.name })).await?;
    let token = text(&edge, "joinToken");
    let message = format!(
        "{token}\nthis token is shown once, and counts for an hour. Next, on the machine of the edge:\nAF_JOIN_TOKEN=… af edge --control {}",
        api.url()
    );
    output.result(&edge, &message);
    Ok(())
}

async fn list(api: &Api, output: &Output) -> anyhow::Result<()> {
    let mut edges = api.list("/v1/edges").await?;
    for edge in &mut edges {
        for (millis, shown) in [("joinedAt", "joined"), ("seenAt", "seen")] {
            let time = edge.get(millis).and_then(Value::as_i64).map(utc);
            if let (Some(time), Some(fields)) = (time, edge.as_object_mut()) {
                fields.insert(shown.into(), time.into());
            }
        }
    }
    let columns = [
        ("ID", "id"),
        ("NAME", "name"),
        ("JOINED", "joined"),
        ("SEEN", "seen"),
        ("KNOWS", "revision"),
        ("VERSION", "version"),
    ];
    output.table(&edges, &columns, "no edges yet; make one with `af edges add NAME`");
    Ok(())
}

async fn remove(api: &Api, options: &RemoveEdge, output: &Output) -> anyhow::Result<()> {
    let edges = api.list("/v1/edges").await?;
    let is_meant = |edge: &&Value| [text(edge, "id"), text(edge, "name")].contains(&options.name.as_str());
    let Some(edge) = edges.iter().find(is_meant) else {
        bail!("there is no edge {}; `af edges list` shows them", options.name);
    };
    let id = text(edge, "id");
    api.delete(&format!("/v1/edges/{id}")).await?;
    output.result(&json!({ "removed": id }), &format!("removed {id}"));
    Ok(())
}
