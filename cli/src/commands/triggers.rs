//! `af functions triggers` and `af functions trigger`: a function's schedule, and a run of it by hand.

use anyhow::bail;
use reqwest::Method;
use serde_json::{Value, json};

use super::functions::utc;
use super::named::{FUNCTION, find};
use crate::args::{Named, RunTrigger};
use crate::client::{Api, text};
use crate::output::Output;

/// Shows when a function is called, and how its newest runs went.
pub async fn show(api: &Api, options: &Named, output: &Output) -> anyhow::Result<()> {
    let function = find(api, FUNCTION, &options.name).await?;
    let schedule = api.get(&format!("/v1/functions/{}/triggers", text(&function, "id"))).await?;
    let triggers = readable(&schedule, "triggers", "nextRunAt");
    let runs = readable(&schedule, "runs", "scheduledAt");
    let columns = [("CRON", "cron"), ("PATH", "path"), ("NEXT", "when")];
    let none = "no triggers now; give it some with `af functions deploy --cron`, and switch it on";
    let triggers = output.columns(&triggers, &columns, none);
    let columns = [
        ("FOR", "when"),
        ("PATH", "path"),
        ("OUTCOME", "outcome"),
        ("STATUS", "status"),
        ("MS", "durationMs"),
        ("ERROR", "error"),
    ];
    let runs = output.columns(&runs, &columns, "no runs yet");
    output.result(&schedule, &format!("{triggers}\n\n{runs}"));
    Ok(())
}

/// Runs one of a function's triggers now.
pub async fn run(api: &Api, options: &RunTrigger, output: &Output) -> anyhow::Result<()> {
    let function = find(api, FUNCTION, &options.function.name).await?;
    let path = format!("/v1/functions/{}/triggers/run", text(&function, "id"));
    let run = api.send(Method::POST, &path, &json!({ "path": options.path })).await?;
    let number = |field: &str| run.get(field).and_then(Value::as_i64);
    let status = number("status").map_or("no response".to_owned(), |status| format!("status {status}"));
    if text(&run, "outcome") != "succeeded" {
        bail!("{} failed: {status} {}", text(&run, "path"), text(&run, "error"));
    }
    let took = number("durationMs").unwrap_or_default();
    output.result(&run, &format!("{} answered with {status} in {took} ms", text(&run, "path")));
    Ok(())
}

/// The items of a list with one of their times as people read it.
fn readable(schedule: &Value, list: &str, time: &str) -> Vec<Value> {
    let mut items = schedule.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
    for item in &mut items {
        let when = item.get(time).and_then(Value::as_i64).map(utc);
        if let Some(fields) = item.as_object_mut() {
            fields.insert("when".into(), when.into());
        }
    }
    items
}
